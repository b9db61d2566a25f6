"""The table of the lists of a data set."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from preparation.survey import ImageFacts

console = Console(width=None if sys.stdout.isatty() else 150)


class ListFacts(NamedTuple):
    """What a list of a data set holds."""

    place: str  # such as source.training
    scans: int
    facts: Sequence[ImageFacts]  # of the scans that can be read
    structures: Mapping[str, int]  # number of labels that show a structure, by its name


def print_lists(title: str, rows: Sequence[ListFacts]) -> None:
    """Prints a row for each list that holds scans: medians over the scans."""
    table = Table(title=title, title_justify="left")
    table.add_column("list")
    for heading in ("scans", "voxels (L-R x F-B x H-F)", "mm", "intensities (0.5-99.5 %)"):
        table.add_column(heading, justify="right")
    shows = any(row.structures for row in rows)
    if shows:
        table.add_column("structures (labels that show them)")
    for row in rows:
        if row.scans:
            structures = [_listed(row.structures)] if shows else []
            table.add_row(row.place, str(row.scans), *_medians(row.facts), *structures)
    console.print(table)


def _medians(facts: Sequence[ImageFacts]) -> tuple[str, str, str]:
    if not facts:
        return "", "", ""
    shape = np.median([one.size for one in facts], axis=0)
    spacing = np.median([one.spacing for one in facts], axis=0)
    lower, upper = np.median([[one.lower, one.upper] for one in facts], axis=0)
    sizes = " x ".join(f"{size:.0f}" for size in shape)
    return sizes, " x ".join(f"{step:.3g}" for step in spacing), f"{lower:.4g} to {upper:.4g}"


def _listed(structures: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in structures.items())
