"""The field of view of slices: where one domain shows more than the other, both are cut to what the smaller one shows.

A network that learns from slices of 240 mm and adapts to slices of 140 mm that are padded to the same size learns the
frame of padding, because the discriminators see nothing else as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TOLERANCE = 1.25  # ratio of the fields of view up to which both domains are taken to show the same
ROOM = 8  # of a slice, the part by which a source crop may lie off the middle of the labels, on each side


class SliceField(NamedTuple):
    """How slices are cut out of the scans.

    Attributes:
        is_matched: whether the domains show different extents, so that slices are as large as the smaller one shows.
        pixel_spacing: mm.
        source_size: rows and columns in pixels that are prepared of source slices, from which slices are cropped.
    """

    is_matched: bool
    pixel_spacing: float
    source_size: tuple[int, int]


def choose_slice_field(
    source: Sequence[Sequence[float]],
    target: Sequence[Sequence[float]],
    slice_size: Sequence[int],
    pixel_spacing: float | None,
    match: bool,
) -> SliceField:
    """Chooses the pixel size where it is not given, and the room for crops of source slices.

    Args:
        source: fields of view of the source's training scans in mm along rows and columns (and slices).
        target: likewise of the target's.
        slice_size: rows and columns of a training slice in pixels.
        pixel_spacing: size of a pixel in mm; None: the field of view fills a slice: the smaller one of both domains
            where they are matched, else the median of all scans.
        match: whether to match the fields of view of both domains.
    """
    size = np.asarray(slice_size)
    fields = [np.median([extent[:2] for extent in domain], axis=0) for domain in (source, target)]
    smaller = np.minimum(*fields)
    is_matched = match and bool((np.maximum(*fields) > TOLERANCE * smaller).any())
    extent = smaller if is_matched else np.median([field[:2] for field in (*source, *target)], axis=0)
    if pixel_spacing is None:
        pixel_spacing = round(float(np.max(extent / size)), 3)
    room = np.zeros(2, dtype=int)
    if is_matched:
        slack = np.floor((fields[0] / pixel_spacing - size) / 2)
        room = np.clip(slack, 0, size // ROOM).astype(int)
    rows, columns = (int(length) for length in size + 2 * room)
    return SliceField(is_matched, float(pixel_spacing), (rows, columns))
