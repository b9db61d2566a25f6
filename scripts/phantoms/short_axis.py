"""The heart for short-axis stacks: many subjects have a scar after an infarction, which only some sequences show."""

from __future__ import annotations

import numpy as np

from phantoms.geometry import BoolArray, Grid, Random, Vector
from phantoms.heart import APEX, Heart, draw_heart
from phantoms.tissues import Tissue, Tissues

LABELS = {
    "0": "background",
    "1": "left ventricle myocardium",
    "2": "left ventricle blood cavity",
    "3": "right ventricle blood cavity",
}
LABEL_VALUES = np.zeros(len(Tissue), dtype=np.uint8)
LABEL_VALUES[[Tissue.MYOCARDIUM, Tissue.LEFT_VENTRICLE, Tissue.RIGHT_VENTRICLE]] = (1, 2, 3)
LABEL_VALUES[[Tissue.SCAR, Tissue.NO_REFLOW]] = 1
SCARRED = 0.7  # share of the subjects that have a scar


def draw_tissues(grid: Grid, rng: Random, turn: Vector) -> Tissues:
    """Draws a subject's heart, turned in the chest by the 3x3 matrix `turn`, with its scar, and samples it."""
    heart = draw_heart(grid, rng, turn)
    tissues = heart.tissues
    for tissue, mask in scar(heart, rng).items():
        tissues[mask & (tissues == Tissue.MYOCARDIUM)] = tissue
    return tissues


def scar(heart: Heart, rng: Random) -> dict[Tissue, BoolArray]:
    """Returns the masks of a scar, not yet cut to the myocardium, and of its core; empty where there is none.

    A scar begins at the cavity, where blood arrives last, and covers a sector of the wall, as the territory of one
    coronary artery does.
    """
    is_scarred, angle, half_width = rng.random() < SCARRED, rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(25, 70))
    low, high = np.add(np.sort(rng.uniform(0, 80, 2)), (0, 15))  # mm from the base
    depth, has_core = rng.uniform(0.35, 1), rng.random() < 0.35
    if not is_scarred:
        return {}
    axis = heart.ventricle.axis
    across = np.cross(axis, APEX[[1, 2, 0]])
    across /= np.linalg.norm(across)
    offset = heart.points - heart.ventricle.base.astype(np.float32)[:, None, None, None]
    along, first, second = (
        np.tensordot(direction.astype(np.float32), offset, axes=1)
        for direction in (axis, across, np.cross(axis, across))
    )
    turned = np.abs(np.angle(np.exp(1j * (np.arctan2(second, first) - angle))))
    cavity, wall = heart.ventricle.cavity, heart.ventricle.wall
    transmural = cavity / np.maximum(cavity - wall, 1e-3)  # 0 at the cavity, 1 at the outside of the wall
    inside = (turned < half_width) & (along > low) & (along < high) & (transmural < depth)
    found = {Tissue.SCAR: inside}
    if has_core:
        core = (turned < half_width / 2) & (along > low + 5) & (along < high - 5)
        found = {Tissue.NO_REFLOW: inside & core & (transmural < depth / 2), Tissue.SCAR: inside}
    return found
