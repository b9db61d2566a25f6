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
    put_text(document, name, markdown([list(rows[0]), *(list(row.values()) for row in rows)]))


def put_text(document: Path, name: str, table: str) -> None:
    """Replaces what stands between the comments by the text of a table; see `put_table`."""
    before, _, after = split_at(document, name)
    write_text(document, f"{before}{table}\n{after}")


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Returns lines of cells, headings first, as a table in Markdown."""
    ruler = ["---", *("---:" for _ in lines[0][1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ruler, *lines[1:]))


def read_table(document: Path, name: str) -> list[dict[str, str]]:
    """Returns the rows of such a table.

    Raises:
        InputError: when the document has no such comments, or no table between them.
    """
    lines = [_cells(line) for line in split_at(document, name)[1].splitlines() if line.startswith("|")]
    if len(lines) < 3 or any(len(line) != len(lines[0]) for line in lines):
        raise InputError(f"{document}: there is no table at <!-- {name} -->: let its benchmark write it (--document).")
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def split_at(document: Path, name: str, hint: str = "") -> tuple[str, str, str]:
    """Returns the text before the table, with its comment, the table, and the text after it, with its comment.

    Raises:
        InputError: when the document has no such comments; its sentence ends with the hint.
    """
    begin = f"<!-- {name} -->\n"
    text = document.read_text(encoding="utf-8") if document.is_file() else ""
    before, found, rest = text.partition(begin)
    if not found or END not in rest:
        lines = f"{begin.strip()} and {END}"
        raise InputError(f"{document}: it has no place for this table: write the lines {lines} where it goes{hint}.")
    table, end, after = rest.partition(END)
    return before + begin, table, end + after


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
