"""Outlines of a structure in a slice, as single closed polygons."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from contourpy import FillType, contour_generator

Points = npt.NDArray[np.float64]  # (N, 2): columns and rows, in pixels; the last is not the first again

HALFWAY, ABOVE = 0.5, 2.0  # between pixels outside (0) and inside (1), and above all of them


def outlines(inside: npt.NDArray[np.bool_]) -> list[Points]:
    """Returns the outlines of the parts of a structure in a slice.

    They run midway between the centers of the pixels inside and those outside. A part with holes is a single polygon
    that reaches each of its holes through a channel of no width, as DICOM's CLOSED_PLANAR asks for.

    Args:
        inside: (rows, columns).
    """
    framed = np.pad(inside, 1).astype(np.float64)  # closes what touches the border
    generator = contour_generator(z=framed, fill_type=FillType.OuterOffset)
    filled: Any = generator.filled(HALFWAY, ABOVE)  # points of each part, and where its rings begin
    found = []
    for points, ends in zip(*filled, strict=True):
        rings = [points[start : stop - 1] - 1 for start, stop in pairwise(ends)]
        found.append(_without_points_on_lines(_join(rings)))
    return found


def _join(rings: list[Points]) -> Points:
    """Returns the outer ring with all holes, each joined to the nearest ring on its left.

    Rings cross the line through the centers of a row of pixels at points of theirs only. So a channel along that line,
    from the leftmost point of a hole to the next point on its left, crosses no ring. What it leads to begins further to
    the left than the hole, so that every chain of channels ends at the outer ring.
    """
    if len(rings) == 1:
        return rings[0]
    points, sizes = np.concatenate(rings), [len(ring) for ring in rings]
    starts = np.cumsum([0, *sizes])
    by_row = np.lexsort((points[:, 0], points[:, 1]))
    place_in_row = np.argsort(by_row)
    leftmost = [start + int(ring[:, 0].argmin()) for start, ring in zip(starts[:-1], rings, strict=True)]
    joined: dict[int, list[int]] = defaultdict(list)  # leftmost points of the holes that a point is joined to
    for point in leftmost[1:]:
        joined[int(by_row[place_in_row[point] - 1])].append(point)
    loops: dict[int, list[int]] = {}  # around a hole and all holes that are joined to it, by its leftmost point

    def around(ring: int, first: int) -> list[int]:
        start, size = int(starts[ring]), sizes[ring]
        path = []
        for step in range(size):
            point = start + (first - start + step) % size
            path.append(point)
            for hole in joined.get(point, ()):
                path += [*loops.pop(hole), point]
        return path

    holes = sorted(range(1, len(rings)), key=lambda ring: -points[leftmost[ring], 0])  # those that end a chain first
    for ring in holes:
        loops[leftmost[ring]] = [*around(ring, leftmost[ring]), leftmost[ring]]
    joint: Points = points[around(0, 0)]
    return joint


def _without_points_on_lines(ring: Points) -> Points:
    """Returns a polygon without the points between which it runs straight on; the coordinates are multiples of 0.5."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    goes_on = (turns == 0) & ((before * after).sum(axis=1) > 0)
    return ring[~goes_on]
