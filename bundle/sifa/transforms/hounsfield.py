"""Judges from the bulk of its values whether a scan is in Hounsfield units (HU).

In HU, air lies at -1000, fat at -100, soft tissue at 0 to 100 and bone up to 1500; a 12-bit CT ends at 3071. Single
values decide nothing: scanners pad slices with -2000 or -3024, and metal goes beyond any limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLE = 1_000_000  # voxels that are looked at
PADDING_BELOW = -1500.0  # HU: nothing in a patient and no noise in air is that low
AIR_BELOW, LUNG_BELOW = -700.0, -200.0  # HU
FAT = (-150.0, -30.0)  # HU
DENSE = (700.0, 1500.0)  # HU: cortical bone; soft tissue where 1000 or 1024 has been added
HIGHEST_SMALLEST = -50.0  # HU: every CT shows air or fat
LARGEST_12_BIT = 3071.0  # HU
NARROWEST = 20.0  # HU: the noise of a CT alone spans more
FEW, SOME, MANY = 0.001, 0.02, 0.25  # shares of the voxels


def not_hu_reason(volume: npt.NDArray[Any]) -> str:
    """Returns why the values of a scan are not HU, as a clause; an empty string where they may be.

    Args:
        volume: intensities, any shape.
    """
    values = _bulk(volume)
    if values.size == 0:
        return ""
    lowest, highest = np.quantile(values, (FEW, 1 - FEW))
    if highest - lowest < NARROWEST:
        return f"its values go from {lowest:.3g} to {highest:.3g}: they are normalized, not HU"
    if values.min() >= 0 and values.max() <= 255:
        return f"its values go from {values.min():g} to {values.max():g}: this looks like windowed 8-bit values, not HU"
    if (values > LARGEST_12_BIT).mean() > SOME:
        return f"{_percent(values > LARGEST_12_BIT)} of its values lie above 3071: they are not HU"
    body = values[values > LUNG_BELOW]
    if body.size < SOME / 2 * values.size:
        return "it shows no tissue at HU of tissue: an offset such as -1024 may have been added twice"
    dense = (body >= DENSE[0]) & (body <= DENSE[1])
    fat = (body > FAT[0]) & (body < FAT[1])
    without_air = (values < LUNG_BELOW).mean() < SOME and dense.mean() > MANY / 5
    if fat.mean() < SOME and (without_air or dense.mean() > MANY):
        return (
            f"{_percent(dense)} of its tissue lies between 700 and 1500, where HU has bone: this looks like CT plus "
            "about 1000 (the rescale intercept left out) or like MR, not HU"
        )
    if (values < HIGHEST_SMALLEST).mean() < FEW:
        return f"its smallest value is {values.min():g}: it shows neither air nor fat, so it is not HU (MR?)"
    return ""


def is_surely_hu(volume: npt.NDArray[Any]) -> bool:
    """Returns whether a scan is in HU beyond doubt: air near -1000, and most of the rest within fat and soft tissue.

    Args:
        volume: intensities, any shape.
    """
    values = _bulk(volume)
    if values.size == 0 or not_hu_reason(volume):
        return False
    body = values[values > LUNG_BELOW]
    tissue = (body < 300).mean()
    return bool((values < AIR_BELOW).mean() > SOME and tissue > 0.6)


def _bulk(volume: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns a regular sample of the values, without padding."""
    flat = volume.reshape(-1)
    values = flat[:: max(1, flat.size // SAMPLE)].astype(np.float64)
    return values[np.isfinite(values) & (values > PADDING_BELOW)]


def _percent(found: npt.NDArray[np.bool_]) -> str:
    return f"{100 * found.mean():.0f} %"
