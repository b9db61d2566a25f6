"""Outlines of a structure in a slice, as single closed polygons."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from contourpy import FillType, contour_generator
from scipy.spatial.distance import cdist

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
    """Returns the outer ring with all holes, each joined to what it lies nearest to.

    Holes are joined in the order of their distance, so that no channel crosses another ring.
    """
    polygon, *holes = rings
    links = [_nearest(polygon, hole) for hole in holes]
    while holes:
        index = min(range(len(holes)), key=lambda number: links[number][0])
        (_, place, start), hole = links.pop(index), holes.pop(index)
        at = int(np.flatnonzero((polygon == place).all(axis=1))[0])
        around = np.roll(hole, -start, axis=0)
        polygon = np.concatenate([polygon[: at + 1], around, around[:1], polygon[at:]])
        links = [
            min(link, _nearest(hole, other), key=lambda one: one[0]) for link, other in zip(links, holes, strict=True)
        ]
    return polygon


def _nearest(ring: Points, hole: Points) -> tuple[float, Points, int]:
    """Returns the smallest distance between points of two rings, the point of the first and the index in the second."""
    distances = cdist(ring, hole)
    at, start = np.unravel_index(int(distances.argmin()), distances.shape)
    return float(distances[at, start]), ring[at], int(start)


def _without_points_on_lines(ring: Points) -> Points:
    """Returns a polygon without the points between which it runs straight on; the coordinates are multiples of 0.5."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    goes_on = (turns == 0) & ((before * after).sum(axis=1) > 0)
    return ring[~goes_on]
