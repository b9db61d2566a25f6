"""Separates the volumes of a DICOM series that holds several: acquisitions, cardiac phases or reconstructions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sifa.io.dicom_slice import TRAITS, SliceHeader, Trait, slice_normal

ALWAYS = ("ConvolutionKernel",)  # different values are different volumes even if these do not overlap
# These vary between the slices of many ordinary series, so they count only if they separate complete volumes.
WEAK = ("TriggerTime", "SliceThickness", "KVP", "ImageType", "ContentTime")
# Slices are reconstructed in any order and in parallel, so this counts only if all slices together are no volume.
RECONSTRUCTION = ("ContentTime",)
# These may vary a little within a scan, so incomplete groups of them are refused only if all slices are no volume.
VARYING = (
    *("AcquisitionTime", "AcquisitionDateTime", "AcquisitionDate", "IrradiationEventUID"),
    "NominalPercentageOfCardiacPhase",
)
SAME_PLACE = 1e-2  # mm
LEAST_SLICES = 3  # of a volume


class Volumes(NamedTuple):
    """The volumes of a series that holds more than one."""

    keyword: str  # the element in which they differ
    slices: dict[str, list[SliceHeader]]  # by an identifier, which may hold text: not for messages
    whole: bool  # whether each has evenly spaced slices, so that they can be separated


@dataclass(frozen=True, slots=True, order=True)
class _Placed:
    height: float  # along the normal of the slices, mm
    header: SliceHeader = field(compare=False)


def find_volumes(headers: Sequence[SliceHeader]) -> Volumes | None:
    """Finds the volumes of a series.

    Slices with different values of an element of `TRAITS` belong to different volumes if these overlap along the
    normal. If they are stacked without overlap, like the table positions of a sequential scan, they are one volume.
    Different convolution kernels are always different volumes.

    Args:
        headers: all slices of a series, in any order.

    Returns:
        The volumes, or None if there is only one or a slice lacks its position.
    """
    if any(header.fault or len(header.position) != 3 or len(header.orientation) != 6 for header in headers):
        return None
    orientations = np.array([header.orientation for header in headers])
    positions = np.array([header.position for header in headers])
    if not np.isfinite(positions).all() or not np.ptp(orientations, axis=0).max() < 1e-3:
        return None
    heights = positions @ slice_normal(headers[0])
    return _find([_Placed(float(height), header) for height, header in zip(heights, headers, strict=True)])


def _find(slices: Sequence[_Placed]) -> Volumes | None:
    unclear = None
    slices = sorted(slices)
    regular = _is_regular(slices)
    for index, keyword in enumerate(TRAITS):
        blocks: dict[Trait, list[_Placed]] = defaultdict(list)
        for one in slices:
            blocks[one.header.traits[index]].append(one)
        if len(blocks) < 2 or (regular and keyword in RECONSTRUCTION):
            continue
        if regular and len(set(blocks) - {None}) < 2 and len(blocks[None]) < LEAST_SLICES:
            continue  # single slices that lack the element belong to the others
        groups = [[block] for block in blocks.values()] if keyword in ALWAYS else _in_passes(blocks)
        if len(groups) < 2:
            continue
        found = _as_volumes(keyword, index, groups)
        if found.whole:
            return found
        if regular and keyword in VARYING:
            continue
        if keyword in ALWAYS or (keyword not in WEAK and _interleave(list(blocks.values()))):
            unclear = unclear or found
    return unclear


def _in_passes(blocks: dict[Trait, list[_Placed]]) -> list[list[list[_Placed]]]:
    """Joins blocks, in the order of their values, as long as they do not overlap.

    Args:
        blocks: slices, sorted by their heights, by value.

    Returns:
        The blocks of each pass over the patient.
    """
    passes: list[list[list[_Placed]]] = []
    low, high = np.inf, -np.inf
    for value in sorted(blocks, key=_order):
        block = blocks[value]
        first, last = block[0].height, block[-1].height
        if passes and (first > high + SAME_PLACE or last < low - SAME_PLACE):
            passes[-1].append(block)
            low, high = min(low, first), max(high, last)
        else:
            passes.append([block])
            low, high = first, last
    return passes


def _as_volumes(keyword: str, index: int, groups: list[list[list[_Placed]]]) -> Volumes:
    """Returns groups of blocks as volumes; groups that hold several volumes are separated further."""
    slices: dict[str, list[SliceHeader]] = {}
    merged = [sorted(one for block in group for one in block) for group in groups]
    whole = all(len(group) == 1 for group in groups) or _cover_the_same(merged)
    for blocks, group in zip(groups, merged, strict=True):
        name = f"{keyword}={blocks[0][0].header.traits[index]}"
        inner = _find(group)
        parts = inner.slices if inner else {"": [one.header for one in group]}
        whole = whole and (inner.whole if inner else _is_regular(group))
        slices.update({f"{name};{part}": headers for part, headers in parts.items()})
    return Volumes(keyword, slices, whole)


def _cover_the_same(groups: Sequence[Sequence[_Placed]]) -> bool:
    """Returns whether groups of sorted slices begin and end at the same heights, within 1.5 slice distances."""
    steps = [float(np.median(np.diff([one.height for one in group]))) for group in groups if len(group) > 1]
    ends = [(group[0].height, group[-1].height) for group in groups]
    return bool(np.ptp(ends, axis=0).max() <= 1.5 * max(steps, default=0.0))


def _is_regular(slices: Sequence[_Placed]) -> bool:
    """Returns whether sorted slices are evenly spaced, copies aside."""
    unique = {(one.header.sop_instance or str(one.header.file), one.header.frame): one.height for one in slices}
    if len(unique) < LEAST_SLICES:
        return False
    gaps = np.diff(list(unique.values()))
    usual = float(np.median(gaps))
    return bool(gaps.min() > SAME_PLACE and np.abs(gaps - usual).max() <= max(0.1 * usual, 0.1))


def _interleave(blocks: Sequence[Sequence[_Placed]]) -> bool:
    """Returns whether a block of sorted slices overlaps one of more than one slice."""
    reached = -np.inf
    for block in sorted(blocks, key=lambda block: (block[0].height, -block[-1].height)):
        if block[0].height <= reached + SAME_PLACE:
            return True
        if len(block) > 1:
            reached = max(reached, block[-1].height)
    return False


def _order(value: Trait) -> tuple[int, float, str]:
    """Sorts missing values before numbers, and these before text."""
    if value is None:
        return 0, 0.0, ""
    return (2, 0.0, value) if isinstance(value, str) else (1, value, "")
