"""What the training data show beyond the fingerprint's medians: the numbers that a plan follows from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sifa.fingerprint.json_entries import JsonEntries

Triple = tuple[float, float, float]

OCCUPIED = 0.05  # share of the voxels of a row, column or slice that are tissue where the body begins
AIR_SHARE = 0.025  # lowest share of the intensity range that counts as air where a rule has no threshold for it
BRIGHT = 200.0  # HU: bone and vessels full of contrast medium are brighter, soft tissue is not


@dataclass(frozen=True)
class DomainStatistics:
    """Statistics of one domain's training volumes; triples are along rows, columns and slices."""

    voxels: tuple[int, int, int]  # along each axis, summed over the volumes: the last is the number of slices
    median_body: Triple  # mm: extent of the tissue around the middle of a volume, see `centered_extent`
    bright_share: float  # of the voxels that count for the intensities above `BRIGHT`, median over volumes; CT only


@dataclass(frozen=True)
class TrainingStatistics:
    """Statistics of the training data; triples are mm along rows, columns and slices."""

    source: DomainStatistics
    target: DomainStatistics
    label_extent: Triple  # of all labels, the largest among training subjects: around the middle of a volume, or, where
    # in-plane fields of view are matched, around their own middle
    structures: Mapping[str, Triple]  # by name: sides of the box around the structure, medians over subjects


def centered_extent(marked: npt.NDArray[np.bool_], spacing: Sequence[float], occupied: float) -> Triple:
    """Returns the extent in mm, around the middle of a volume, that holds all marked rows, columns and slices.

    Training slices are cropped around the middle of a volume, so tissue to one side needs twice its distance.

    Args:
        marked: a volume (rows, columns, slices).
        spacing: mm between voxels along these axes.
        occupied: a row, column or slice counts where more than this share of its voxels is marked.
    """
    extents = []
    for axis, step in enumerate(spacing):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(marked.mean(axis=others) > occupied)
        size = marked.shape[axis]
        reach = max(size - 2 * int(found[0]), 2 * int(found[-1]) + 2 - size) if len(found) else 0
        extents.append(float(reach * step))
    return extents[0], extents[1], extents[2]


def body_extent(volume: npt.NDArray[np.floating], spacing: Sequence[float], above: float) -> Triple:
    """Returns the extent in mm, around the middle of a volume, of the tissue: what is brighter than `above`."""
    return centered_extent(volume > above, spacing, OCCUPIED)


def median_triple(triples: Sequence[Sequence[float]]) -> Triple:
    """Returns the medians of triples, to a thousandth."""
    first, second, third = (round(float(value), 3) for value in np.median(triples, axis=0))
    return first, second, third


def read_statistics(entries: JsonEntries) -> TrainingStatistics:
    """Returns the statistics that a section of a `fingerprint.json` describes."""
    structures = entries.section("structures")
    return TrainingStatistics(
        source=_read_domain(entries.section("source")),
        target=_read_domain(entries.section("target")),
        label_extent=_triple(entries, "label_extent"),
        structures={name: _triple(structures, name) for name in structures},
    )


def _read_domain(entries: JsonEntries) -> DomainStatistics:
    rows, columns, slices = (int(number) for number in entries.numbers("voxels", 3))
    return DomainStatistics((rows, columns, slices), _triple(entries, "median_body"), entries.number("bright_share"))


def _triple(entries: JsonEntries, key: str) -> Triple:
    first, second, third = entries.numbers(key, 3)
    return first, second, third
