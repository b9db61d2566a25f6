"""Renders tissues as CT with contrast medium, in HU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from phantoms.geometry import BoolArray, FloatArray, Grid, Random, Vector
from phantoms.tissues import CT, LEFT_BLOOD, PORTAL_CT, RIGHT_BLOOD, Tissue, Tissues, draw_levels

HEART_NOISE = (18.0, 45.0)  # HU, of thin slices
ABDOMEN_NOISE = (8.0, 18.0)  # HU, of thicker slices


def heart_levels(shown: Sequence[Tissue], rng: Random) -> Vector:
    """Draws HU of the tissues with contrast in the left heart and less of it in the right."""
    levels = draw_levels(CT, shown, rng)
    levels[Tissue.PULMONARY_VEIN] = levels[Tissue.LEFT_ATRIUM]
    levels[LEFT_BLOOD] += np.clip(rng.normal(340, 45), 240, 440)
    levels[RIGHT_BLOOD] += rng.uniform(70, 230)
    return levels


def portal_levels(shown: Sequence[Tissue], rng: Random) -> Vector:
    """Draws HU of the tissues of the abdomen about 70 seconds after the injection of contrast."""
    return draw_levels(PORTAL_CT, shown, rng)


def render_ct(
    thin: Tissues, grid: Grid, levels: Vector, noise: tuple[float, float], rng: Random
) -> npt.NDArray[np.int16]:
    """Renders tissues as CT in HU, -1024 to 1500.

    Args:
        thin: tissues on the refined grid, whose axes point about to the patient's right, front and top.
        grid: of the image.
        levels: HU by tissue.
        noise: lowest and highest standard deviation of the noise in HU, which is half as much again in tissue.
        rng: random numbers.
    """
    tissues = grid.middle(thin)
    is_bone = np.isin(tissues, (Tissue.BONE, Tissue.MARROW))
    is_mixing = np.isin(tissues, (Tissue.RIGHT_VENTRICLE, Tissue.RIGHT_ATRIUM))
    image = grid.averaged(levels.astype(np.float32)[thin])
    image += 70 * is_bone * grid.noise(rng, 3) + 40 * is_mixing * grid.noise(rng, 19)
    image = gaussian_filter(image, grid.blur(0.6, 0.5))
    image += streaks(tissues == Tissue.VENA_CAVA, levels[Tissue.VENA_CAVA], grid, rng)
    image += rng.uniform(*noise) * grid.grain(rng, (0.6, 0.6, 0.3)) * (1 + 0.5 * (image > -500))
    image += rng.uniform(4, 14) * grid.grain(rng, (12 / grid.spacing[0], 0, 0.5))  # lines from arm to arm
    return np.asarray(np.round(np.clip(image, -1024, 1500)), dtype=np.int16)


def streaks(source: BoolArray, level: float, grid: Grid, rng: Random) -> FloatArray:
    """Streaks in HU that radiate within the axial planes from contrast of more than 350 HU; `source` is its mask."""
    phase, rays = rng.uniform(0, 2 * np.pi, grid.shape[2]), rng.integers(5, 9, grid.shape[2])
    area = source.sum(axis=(0, 1))
    x, y = (np.indices(grid.shape[:2]) * grid.spacing[:2, None, None])[..., None]
    right = x - (x * source).sum(axis=(0, 1)) / np.maximum(area, 1)
    front = y - (y * source).sum(axis=(0, 1)) / np.maximum(area, 1)
    strength = 0.35 * (level - 250) * (level > 350) * (area > 0)
    waves = np.cos(rays * np.arctan2(front, right) + phase) * np.exp(-np.hypot(right, front) / 38)
    return np.asarray(strength * waves, dtype=np.float32)
