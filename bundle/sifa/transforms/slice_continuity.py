"""Notices slices of two volumes that alternate in one scan, whatever the headers say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEAST_SLICES = 10
ACROSS = 96  # voxels of a slice along each axis that are compared
ALTERNATING = 0.9  # ratio of differences below which slices alternate; noise alone gives 1, anatomy more


def alternation_reason(volume: npt.NDArray[np.generic]) -> str:
    """Returns a clause where the slices of a volume (X, Y, Z) alternate between two images; else an empty string."""
    if alternation(volume) >= ALTERNATING:
        return ""
    return "its slices alternate between two images, such as two phases or two patients: separate them"


def alternation(volume: npt.NDArray[np.generic]) -> float:
    """Returns the mean difference of slices two apart, divided by that of neighboring slices; the least of all axes.

    Anatomy changes along an axis, so slices two apart differ more than neighbors. Where every second slice is of
    another time or patient, they differ less.

    Args:
        volume: intensities (X, Y, Z).
    """
    ratios = [np.inf]
    for axis, count in enumerate(volume.shape):
        if count < LEAST_SLICES:
            continue
        steps = [1 if other == axis else max(1, size // ACROSS) for other, size in enumerate(volume.shape)]
        slices = np.moveaxis(volume[tuple(slice(None, None, step) for step in steps)], axis, 0).astype(np.float32)
        near, far = (float(np.abs(slices[step:] - slices[:-step]).mean()) for step in (1, 2))
        if near > 0:
            ratios.append(far / near)
    return float(min(ratios))
