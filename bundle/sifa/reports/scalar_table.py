"""`scalars.csv`: a row of scalars an iteration, appended while training runs; a killed process may cut the last one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sifa.utils.files import write_text

EPOCH, ITERATION = "epoch", "iteration"  # the first two columns


def append_row(path: Path, cells: Iterable[object]) -> None:
    """Appends a row, which the system has when this returns. No cell holds a comma, a quote or a line break."""
    with open(path, "a", encoding="utf-8", newline="") as stream:
        stream.write(_line(cells))


def rewrite(path: Path, last_iteration: int, columns: Iterable[str]) -> list[str]:
    """Writes the table anew, whole or not at all: without rows that were cut, and with columns that it lacked.

    Args:
        path: the table; none yet is an empty one.
        last_iteration: rows of later iterations are dropped.
        columns: names to add behind those of the rows that stay, whose cells there are empty.

    Returns:
        The names of all columns.
    """
    kept, rows = read_rows(path, last_iteration)
    names = list(dict.fromkeys([*(kept if rows else ()), *columns]))
    empty = [""] * (len(names) - len(kept))
    write_text(path, "".join([_line(names), *(_line([*row, *empty]) for row in rows)]))
    return names


def read_rows(path: Path, last_iteration: int = sys.maxsize) -> tuple[list[str], list[list[str]]]:
    """Returns the columns' names and the cells of all whole rows up to an iteration; of no table, none of either."""
    if not path.is_file():
        return [], []
    *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")  # what no line break ends is cut
    columns, *rows = [line.split(",") for line in lines] or [[]]
    if ITERATION not in columns:
        return [], []
    place = columns.index(ITERATION)
    return columns, [
        row for row in rows if len(row) == len(columns) and row[place].isdecimal() and int(row[place]) <= last_iteration
    ]


def read_columns(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Returns each column as numbers, NaN where a cell is empty."""
    columns, rows = read_rows(path)
    table = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(len(rows), len(columns))
    return dict(zip(columns, table.T, strict=True))


def _line(cells: Iterable[object]) -> str:
    return ",".join(map(str, cells)) + "\n"
