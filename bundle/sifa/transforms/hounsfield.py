"""Judges from the bulk of its values whether a scan is in Hounsfield units (HU).

In HU, air lies at -1000, fat at -100, soft tissue at 0 to 100 and bone up to 1500; a 12-bit CT ends at 3071. Outliers
are ignored: scanners pad slices with -2000 or -3024, and metal can have any high value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLE = 1_000_000  # voxels that are looked at
PADDING_BELOW = -1500.0  # HU: nothing in a patient and no noise in air is that low
AIR_BELOW, LUNG_BELOW = -700.0, -200.0  # HU
AIR = (-1150.0, -600.0)  # HU: of air, and of lung where a scan shows little else
TISSUE = (-180.0, 250.0)  # HU: most of fat, soft tissue and contrast medium
JUMP = 600.0  # HU: no two slices of a patient differ that much in their lowest, middle and highest values alike
ACROSS = 48  # voxels of a slice along each axis that are looked at
NOISE = 20  # different values of padding beyond which it is noise in air
BIN = 25.0  # HU: of histograms
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
    sample = _sample(volume)
    if sample.size == 0:
        return ""
    values, padding = sample[sample > PADDING_BELOW], sample[sample <= PADDING_BELOW]
    if values.size == 0:
        return f"all its values lie below {PADDING_BELOW:g}: they are not HU"
    if padding.size > MANY * sample.size and np.unique(padding).size > NOISE:
        return f"many of its values vary around {_mode(padding):.0f}: an offset such as -1024 may have been added twice"
    lowest, highest = np.quantile(values, (FEW, 1 - FEW))
    if highest - lowest < NARROWEST:
        return f"its values go from {lowest:.3g} to {highest:.3g}: they are normalized, not HU"
    if (values.min() >= 0 and values.max() <= 255) or (values.min() == -128 and values.max() == 127):
        return f"its values go from {values.min():g} to {values.max():g}: this looks like windowed 8-bit values, not HU"
    if (values > LARGEST_12_BIT).mean() > SOME:
        return f"{_percent(values > LARGEST_12_BIT)} of its values lie above 3071: they are not HU"
    body, dark = values[values > LUNG_BELOW], values[values < LUNG_BELOW]
    dense = (body >= DENSE[0]) & (body <= DENSE[1])
    fat = (body > FAT[0]) & (body < FAT[1])
    without_air, without_fat = dark.size < SOME * values.size, body.size > 0 and fat.mean() < SOME
    least = (2 * MANY, MANY, MANY / 5)[int(without_air) + int(without_fat)]  # of dense tissue
    if body.size and dense.mean() > least:
        return (
            f"{_percent(dense)} of its tissue voxels are between 700 and 1500, the HU range of bone: this looks like "
            "CT plus about 1000 (rescale intercept not applied) or like MR, not HU"
        )
    clipped = (dark == values.min()).mean() > 2 * MANY if dark.size else True
    if dark.size > MANY * values.size and not clipped and not AIR[0] < _mode(dark) < AIR[1]:
        return f"its darkest voxels lie around {_mode(dark):.0f}, not around -1000 as air in HU"
    if body.size < MANY / 5 * values.size and not (body.size and TISSUE[0] < _mode(body) < TISSUE[1]):
        return "almost no voxel has HU of tissue: an offset such as -1024 may have been added twice"
    if (values < HIGHEST_SMALLEST).mean() < FEW:
        return f"its smallest value is {values.min():g}: it shows neither air nor fat, so it is not HU (MR?)"
    return _jump(volume)


def is_surely_hu(volume: npt.NDArray[Any]) -> bool:
    """Returns whether a scan is in HU beyond doubt: air near -1000, and most of the rest within fat and soft tissue.

    Args:
        volume: intensities, any shape.
    """
    sample = _sample(volume)
    values = sample[sample > PADDING_BELOW]
    body = values[values > LUNG_BELOW]
    has_air = values.size > 0 and (values < AIR_BELOW).mean() > SOME
    has_tissue = body.size > 0 and (body < 300).mean() > 0.6
    return bool(has_air and has_tissue) and not not_hu_reason(volume)


def _jump(volume: npt.NDArray[Any]) -> str:
    """Returns a clause where all values jump from one slice to the next, as where an offset is missing in a part."""
    if volume.ndim < 3:
        return ""
    grid = volume.reshape(-1, *volume.shape[-3:])[0]
    for axis in range(3):
        steps = [1 if other == axis else max(1, size // ACROSS) for other, size in enumerate(grid.shape)]
        slices = np.moveaxis(grid[tuple(slice(None, None, step) for step in steps)], axis, 0)
        quantiles = np.quantile(slices.reshape(len(slices), -1), (0.05, 0.5, 0.95), axis=1)
        changes = np.diff(quantiles, axis=1)
        lower = np.minimum(quantiles[:, :-1], quantiles[:, 1:])
        has_air = (lower[0] < LUNG_BELOW) & (lower[0] > PADDING_BELOW)
        whole = has_air & (lower[2] > LUNG_BELOW)  # the darker of two slices shows air and tissue
        least = np.where(whole & (np.ptp(np.sign(changes), axis=0) == 0), np.abs(changes).min(axis=0), 0)
        if least.size and least.max() > JUMP:
            return f"all its values jump by {least.max():.0f} or more between two slices: a part of it is not HU"
    return ""


def _sample(volume: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns a regular sample of the finite values."""
    flat = volume.reshape(-1)
    values = flat[:: max(1, flat.size // SAMPLE)].astype(np.float64)
    return values[np.isfinite(values)]


def _mode(values: npt.NDArray[np.float64]) -> float:
    """Returns the middle of the 25 HU that hold the most values."""
    bins = np.floor(values / BIN).astype(np.int64)
    found, counts = np.unique(bins, return_counts=True)
    return float(found[counts.argmax()] * BIN + BIN / 2)


def _percent(found: npt.NDArray[np.bool_]) -> str:
    return f"{100 * found.mean():.0f} %"
