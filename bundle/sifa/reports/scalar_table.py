"""`scalars.csv`: a row of scalars an iteration, appended while training runs; a killed process may cut the last one."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sifa.utils.files import write_text

EPOCH, ITERATION = "epoch", "iteration"  # the first two columns


def append_row(path: Path, cells: Iterable[object]) -> None:
    """Appends a row, which the operating system has when this returns. No cell may hold a line break."""
    with open(path, "a", encoding="utf-8", newline="") as stream:
        stream.write(_text([cells]))


def rewrite(path: Path, last_iteration: int, columns: Iterable[str]) -> list[str]:
    """Rewrites the table, whole or not at all, without incomplete rows and with any columns that it lacks.

    Args:
        path: the table; a missing file is an empty table.
        last_iteration: rows of later iterations are dropped.
        columns: names to append if the table lacks them; rows that stay have empty cells there.

    Returns:
        The names of all columns.
    """
    kept, rows = read_rows(path, last_iteration)
    names = list(dict.fromkeys([*(kept if rows else ()), *columns]))
    empty = [""] * (len(names) - len(kept))
    write_text(path, _text([names, *([*row, *empty] for row in rows)]))
    return names


def read_rows(path: Path, last_iteration: int = sys.maxsize) -> tuple[list[str], list[list[str]]]:
    """Returns the column names and the cells of all complete rows up to an iteration, both empty without a table."""
    if not path.is_file():
        return [], []
    with open(path, encoding="utf-8", errors="replace", newline="") as stream:
        content = stream.read()
    complete = content[: content.rfind("\n") + 1]  # a row without a line break was cut
    columns, *rows = [*csv.reader(StringIO(complete, newline=""))] or [[]]
    if ITERATION not in columns:
        return [], []
    place = columns.index(ITERATION)
    return columns, [
        row for row in rows if len(row) == len(columns) and row[place].isdecimal() and int(row[place]) <= last_iteration
    ]


def read_columns(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Returns each column as an array (rows,), NaN where a cell is empty."""
    columns, rows = read_rows(path)
    table = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(len(rows), len(columns))
    return dict(zip(columns, table.T, strict=True))


def _text(rows: Iterable[Iterable[object]]) -> str:
    """Returns rows as CSV text."""
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
