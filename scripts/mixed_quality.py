"""Damages CT scans in ways that scanners and exports do, so that masks of every quality come out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

DAMAGES = ("noise", "blur", "thick slices", "wrong units", "no contrast medium", "cut off", "streaks")
UNDAMAGED = 2 / 9  # share of the scans


def damage(volume: Array, labels: Labels, rng: np.random.Generator) -> tuple[Array, Labels, str]:
    """Returns a scan with at most one damage of random strength, its labels, and the name of the damage.

    Args:
        volume: intensities in HU, (X, Y, Z).
        labels: classes on the same grid; a scan that is cut off keeps those of what is left.
        rng: decides about damage and strength.
    """
    name = "none" if rng.random() < UNDAMAGED else str(rng.choice(DAMAGES))
    strength = float(rng.uniform(0.15, 1))
    if name == "noise":
        volume = volume + strength * 200 * rng.standard_normal(volume.shape).astype(np.float32)
    elif name == "blur":
        volume = gaussian_filter(volume, strength * 2.5)
    elif name == "thick slices":
        volume = _average_slices(volume, 2 + int(4 * strength), int(rng.integers(3)))
    elif name == "wrong units":
        signs = rng.choice([-1, 1], 2)
        volume = volume * (1 + 0.3 * strength * signs[0]) + 150 * strength * signs[1]
    elif name == "no contrast medium":
        volume = np.where(volume > 50, 50 + (volume - 50) * (1 - 0.9 * strength), volume)
    elif name == "cut off":
        axis = int(rng.integers(3))
        kept = int(volume.shape[axis] * (1 - 0.5 * strength))
        start = int(rng.integers(0, volume.shape[axis] - kept + 1))
        part = tuple(slice(start, start + kept) if each == axis else slice(None) for each in range(3))
        volume, labels = volume[part], labels[part]
    elif name == "streaks":
        volume = volume + strength * 250 * _waves(volume.shape, rng)
    return np.ascontiguousarray(volume, dtype=np.float32), np.ascontiguousarray(labels), name


def _average_slices(volume: Array, count: int, axis: int) -> Array:
    """Returns a scan whose neighboring slices along an axis are averaged in groups; its grid stays."""
    moved = np.moveaxis(volume, axis, 0)
    groups = np.arange(len(moved)) // count
    means = np.stack([moved[groups == group].mean(axis=0) for group in range(groups[-1] + 1)])
    return np.moveaxis(means[groups], 0, axis)


def _waves(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    angle, frequency = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.2)
    x, _, z = np.indices(shape, dtype=np.float32)
    waves: Array = np.sin((x * np.cos(angle) + z * np.sin(angle)) * frequency).astype(np.float32)
    return waves
