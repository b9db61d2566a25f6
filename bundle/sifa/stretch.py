"""The neighboring slices that show most, which training and inference both look for."""

from __future__ import annotations

import numpy as np


def best_stretch(foreground: np.ndarray, slices: int) -> slice:
    """Returns the stretch of that many neighboring slices, or of all if there are fewer, with the greatest sum.

    Args:
        foreground: how much of the structures each slice shows, (N,).
        slices: length of the stretch, 1 or more.
    """
    if slices >= len(foreground):
        return slice(0, len(foreground))
    sums = np.convolve(foreground, np.ones(slices), mode="valid")
    first = int(np.argmax(sums))
    return slice(first, first + slices)
