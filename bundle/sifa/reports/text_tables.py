"""Tables as Markdown and as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
}
PREAMBLE = "% Needs \\usepackage{booktabs}.\n"  # of files of such tables in LaTeX
NEGATIVE = re.compile(r"(?<![\w.)])-(?=\d)")  # the minus of a number, not a hyphen


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Args:
        headings: of the columns.
        rows: cells, as many in each row as headings.
        caption: one or more sentences, plain text.
        text_columns: how many columns, from the left, hold text; numbers are aligned at the right.
        groups: numbers of the rows before which a rule begins a new group, in LaTeX.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    text_columns: int = 1
    groups: Sequence[int] = ()


def to_markdown(table: TextTable) -> str:
    """Returns a table in Markdown, with its caption below."""
    numbers = len(table.headings) - table.text_columns
    ruler = ["---"] * table.text_columns + ["---:"] * numbers
    lines = [[escape_markdown(cell) for cell in row] for row in (table.headings, *table.rows)]
    body = "\n".join(f"| {' | '.join(row)} |" for row in (lines[0], ruler, *lines[1:]))
    return f"{body}\n\n{escape_markdown(table.caption)}\n"


def to_latex(table: TextTable, label: str) -> str:
    """Returns a table environment for LaTeX, which needs the package booktabs.

    Args:
        table: the table.
        label: for references, such as `tab:results`.
    """
    columns = "l" * table.text_columns + "r" * (len(table.headings) - table.text_columns)
    rows = [
        line
        for number, row in enumerate(table.rows)
        for line in ([r"\midrule", _latex_row(row)] if number in table.groups else [_latex_row(row)])
    ]
    return "\n".join(
        (
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(table.caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _latex_row(table.headings),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        )
    )


def escape_latex(text: str) -> str:
    """Returns plain text as LaTeX; the minus of a number is one."""
    marked = NEGATIVE.sub("\0", text)
    return "".join(LATEX.get(character, character) for character in marked).replace("\0", "$-$")


def escape_markdown(text: str) -> str:
    """Returns plain text for a cell of a table in Markdown."""
    return re.sub(r"([\\|*_<>`])", r"\\\1", " ".join(text.split()))


def _latex_row(cells: Sequence[str]) -> str:
    row = " & ".join(escape_latex(" ".join(cell.split())) for cell in cells) + r" \\"
    return f"{{}}{row}" if row.startswith("[") else row  # a bracket after \\ would be a length
