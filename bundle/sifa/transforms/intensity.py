"""Normalization of intensities to [-1, 1], as described by the fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sifa.utils.errors import InputError

# Normalized intensities, without unit, in [-1, 1].
AIR = -1.0  # of everything at or below the lower end of the window
NO_AIR = -0.95  # lowest intensity of tissue
AIR_THRESHOLD = -0.999  # an image without a pixel above it shows only air; not -1, since resampling rounds


def intensity_window(volume: torch.Tensor, intensity: Mapping[str, Any]) -> tuple[float, float]:
    """Returns the intensities that are mapped to -1 and 1.

    Args:
        volume: intensities, any shape.
        intensity: the fingerprint's entry of one domain: `{"mode": "window", "lower": a, "upper": b}` gives a and b
            (calibrated units such as HU); `{"mode": "percentiles", "lower": p, "upper": q}` gives the volume's own p-th
            and q-th percentile (arbitrary units such as MR).

    Raises:
        InputError: when the mode is unknown.
    """
    lower, upper = float(intensity["lower"]), float(intensity["upper"])
    if intensity["mode"] == "window":
        return lower, upper
    if intensity["mode"] == "percentiles":
        low, high = np.percentile(volume.numpy(force=True), (lower, upper))
        return float(low), float(high)
    raise InputError(f"intensity mode {intensity['mode']!r} is unknown: choose window or percentiles.")


def normalize(intensities: torch.Tensor, lower: float, upper: float) -> torch.Tensor:
    """Maps [lower, upper] linearly to [-1, 1] and clips; returns float32. A window of width 0 gives -1 and 1 only."""
    width = max(upper - lower, 1e-6)
    return intensities.to(torch.float32).sub(lower).mul_(2 / width).sub_(1).clamp_(-1, 1)


def along_curve(image: torch.Tensor, curve: Mapping[str, Sequence[float]] | None) -> torch.Tensor:
    """Maps the intensities of `image`, in place, along a curve; see `sifa.fingerprint.histogram_matching`.

    Args:
        image: in [-1, 1], float32, any shape.
        curve: increasing intensities `from` and what they become, `to`; linear in between; None: no change.
    """
    if curve is None:
        return image
    values = np.interp(image.numpy(force=True), curve["from"], curve["to"]).astype(np.float32)
    return image.copy_(torch.from_numpy(values))
