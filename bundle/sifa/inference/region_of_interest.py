"""The region of interest of a scan: found in a first, coarse pass, so that the rest of the scan is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from sifa.transforms.slices import Region, ScanSlices


def find_region(
    scan: ScanSlices,
    pixel_spacing: Sequence[float],
    predict_slice: Callable[[Region], np.ndarray | None],
    step: float,
    margin: float,
    least_share: float,
) -> Region:
    """Segments slices `step` mm apart and returns the box around the structures that they show, with a margin.

    Args:
        scan: the slices of the scan.
        pixel_spacing: size of a sampled pixel in mm, rows and columns.
        predict_slice: maps a region of one slice to its labels (rows, columns); None for a slice of air.
        step: distance in mm of the slices that are segmented.
        margin: mm by which the box is widened on every side.
        least_share: see `box_of_main_components`.

    Returns:
        The region; without any slice when no slice shows a structure.
    """
    every = max(1, round(step / scan.step))
    sizes = (len(scan.slices), *(len(axis) for axis in scan.positions))
    coarse = np.zeros((len(range(0, sizes[0], every)), *sizes[1:]), dtype=np.uint8)
    for number, index in enumerate(range(0, sizes[0], every)):
        labels = predict_slice(scan.whole._replace(slices=slice(index, index + 1)))
        if labels is not None:
            coarse[number] = labels
    box = box_of_main_components(coarse, least_share)
    if box is None:
        return scan.whole._replace(slices=slice(0, 0))
    low = [box[0].start * every, box[1].start, box[2].start]
    high = [(box[0].stop - 1) * every + 1, box[1].stop, box[2].stop]
    margins = [margin / length for length in (scan.step, *pixel_spacing)]
    margins[0] += every  # a structure may end anywhere between two slices of the coarse pass
    sides = zip(low, high, margins, sizes, strict=True)
    return Region(*(slice(max(0, int(a - more)), min(size, int(np.ceil(b + more)))) for a, b, more, size in sides))


def box_of_main_components(labels: np.ndarray, least_share: float) -> tuple[slice, ...] | None:
    """Returns the box around the structures of a mask, without small components; None for an empty mask.

    Args:
        labels: a mask, 0 for background.
        least_share: a component counts when it has at least this share of the voxels of the largest component of its
            structure.
    """
    counts = np.zeros(labels.shape, dtype=np.uint8)
    for value in range(1, int(labels.max()) + 1):
        components, _ = ndimage.label(labels == value, np.ones((3, 3, 3)))
        voxels = np.bincount(components.ravel())
        voxels[0] = 0  # the background of this structure
        counts |= (voxels >= max(1, least_share * voxels.max()))[components]
    return ndimage.find_objects(counts)[0] if counts.any() else None


def windows_over(part: slice, size: int, window: int, interval: int) -> slice:
    """Returns the union of the sliding windows that touch `part` of an axis.

    They are windows of the whole axis, so predictions inside `part` are the same as without the restriction to a part.

    Args:
        part: a range of the axis.
        size: length of the axis.
        window: length of a window.
        interval: distance between the starts of windows; the last window ends with the axis.
    """
    last = max(0, size - window)
    first = max(0, (part.start - window) // interval + 1) * interval
    stop = (max(0, part.stop - 1) // interval) * interval + window
    return slice(min(first, last), size if last < part.stop else min(size, stop))
