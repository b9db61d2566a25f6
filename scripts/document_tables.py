"""Tables in documents that benchmarks write, between two comments, and that are read back to be checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sifa.utils.errors import InputError
from sifa.utils.files import write_text

END = "<!-- end -->"

Rows = Sequence[Mapping[str, str]]  # by heading


def put_table(document: Path, name: str, rows: Rows) -> None:
    """Replaces the table between the comments `<!-- NAME -->` and `<!-- end -->` in a document.

    Raises:
        InputError: when the document has no such comments.
    """
    before, _, after = _split(document, name)
    write_text(document, f"{before}{_markdown(rows)}{after}")


def read_table(document: Path, name: str) -> list[dict[str, str]]:
    """Returns the rows of such a table.

    Raises:
        InputError: when the document has no such comments, or no table between them.
    """
    lines = [_cells(line) for line in _split(document, name)[1].splitlines() if line.startswith("|")]
    if len(lines) < 3 or any(len(line) != len(lines[0]) for line in lines):
        raise InputError(f"{document}: there is no table at <!-- {name} -->: let its benchmark write it (--document).")
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def _split(document: Path, name: str) -> tuple[str, str, str]:
    """Returns the text before the table, with its comment, the table, and the text after it, with its comment."""
    begin = f"<!-- {name} -->\n"
    text = document.read_text(encoding="utf-8") if document.is_file() else ""
    before, found, rest = text.partition(begin)
    if not found or END not in rest:
        raise InputError(
            f"{document}: it has no place for this table: write the lines {begin.strip()} and {END} where it goes."
        )
    table, end, after = rest.partition(END)
    return before + begin, table, end + after


def _markdown(rows: Rows) -> str:
    lines = [list(rows[0]), ["---", *("---:" for _ in list(rows[0])[1:])], *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
