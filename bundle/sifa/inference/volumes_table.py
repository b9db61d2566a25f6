"""`volumes.csv`: a row for each scan and structure of an output folder, for tables and statistics."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from sifa.inference.case import Case
from sifa.inference.output_names import free_name
from sifa.utils.errors import InputError, first_line
from sifa.utils.files import write_text

logger = logging.getLogger(__name__)

NAME = "volumes.csv"
EXTENTS = ("extent_lr_mm", "extent_ap_mm", "extent_si_mm")  # of the entry `extent_mm`
MEASURED = (
    *("value", "volume_ml", "mean", "sd", "unit", *EXTENTS, "touches_border"),
    *("components", "confidence", "entropy"),
)
PREDICTED = ("predicted_dice", "low", "high")  # of a calibrated model
COLUMNS = ("scan", "status", "structure", *MEASURED, "flags", "message")

Row = dict[str, Any]


class VolumesTable:
    """The table of an output folder, made from the cases of its manifest.

    Args:
        output_dir: folder of the table.
    """

    def __init__(self, output_dir: Path) -> None:
        self.path = output_dir / NAME
        self.rows: dict[str, tuple[Case, list[Row]]] = {}  # of the cases that were written last, by scan
        self.lines: dict[str, str] = {}  # the same as text, with the columns of `header`
        self.header = ""

    def write(self, cases: Collection[Case]) -> None:
        """Writes the table, whole or not at all, if its file does not hold it already.

        Only rows of cases that are new since the last call are made.

        Args:
            cases: all cases of the folder.

        Raises:
            InputError: when it cannot be written.
        """
        known, self.rows = self.rows, {}
        for case in sorted(cases, key=lambda case: case.input):
            row = known.get(case.input)
            self.rows[case.input] = row if row is not None and row[0] is case else (case, rows_of(case))
        columns = columns_of(row for _, rows in self.rows.values() for row in rows)
        header = _as_csv([dict(zip(columns, columns, strict=True))], columns)
        kept = self.lines if header == self.header else {}
        self.header = header
        self.lines = {
            name: kept[name] if name in kept and known.get(name) is found else _as_csv(found[1], columns)
            for name, found in self.rows.items()
        }
        try:
            self._replace(header + "".join(self.lines.values()))
        except OSError as error:
            raise InputError(
                f"{self.path}: it cannot be written ({first_line(error)}): make room or choose another folder."
            ) from error

    def _replace(self, text: str) -> None:
        """Replaces the file unless it holds this text; a file of this name that is no such table is renamed."""
        if self.path.is_file():
            held = self.path.read_bytes()
            if held == text.encode():
                return
            if not held.startswith(",".join(COLUMNS[:3]).encode()):
                aside = free_name(self.path)
                self.path.replace(aside)
                logger.warning("%s: it is not of this bundle and is kept as %s", self.path, aside.name)
        write_text(self.path, text)


def rows_of(case: Case) -> list[Row]:
    """Returns the rows of a case by column: one for each structure, or a single one where there is no mask.

    Entries by structure that a later version adds, in `quality` or beside it, become columns of their own, if they are
    numbers or texts.
    """
    shared = {"scan": case.input, "status": case.status, "message": case.message}
    quality = case.quality or {}
    rows = []
    for name, entry in quality.items():
        others = {key: value for key, value in _by_structure(case, name).items() if key not in COLUMNS}
        measured = {key: value for key, value in entry.items() if _is_plain(value) and key != "extent_mm"}
        extents = dict(zip(EXTENTS, entry.get("extent_mm") or (), strict=False))
        flags = "; ".join(entry.get("flags") or ())
        rows.append({**others, **measured, **extents, **shared, "structure": name, "flags": flags})
    return rows or [shared]


def _by_structure(case: Case, name: str) -> Mapping[str, Any]:
    """Returns the plain values of a structure in entries of a case that are by structure, except for its volume."""
    entries = {key: value for key, value in case.to_json().items() if isinstance(value, Mapping)}
    del entries["quality"]
    return {
        key: value[name]
        for key, value in entries.items()
        if key != "volumes_ml" and name in value and _is_plain(value[name])
    }


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Returns the columns of a table: the usual ones, those of predicted Dice, and others in alphabetical order."""
    found = {key for row in rows for key in row} - set(COLUMNS)
    return [*COLUMNS, *(key for key in PREDICTED if key in found), *sorted(found - set(PREDICTED))]


def _as_csv(rows: Iterable[Row], columns: Iterable[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, list(columns), lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace").decode()  # names of files need not be text
