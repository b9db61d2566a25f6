"""The heart in the chest, as layers of tissues that cover one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phantoms.geometry import (
    IDENTITY,
    FloatArray,
    Grid,
    Random,
    Vector,
    apply_matrix,
    column,
    ellipsoid,
    rotation,
    tube,
)
from phantoms.tissues import Layer, Tissue, Tissues, cover

LABELS = {
    "0": "background",
    "1": "left ventricle myocardium",
    "2": "left atrium blood cavity",
    "3": "left ventricle blood cavity",
    "4": "ascending aorta",
}
LABEL_VALUES = np.zeros(len(Tissue), dtype=np.uint8)
LABEL_VALUES[[Tissue.MYOCARDIUM, Tissue.LEFT_ATRIUM, Tissue.LEFT_VENTRICLE, Tissue.ASCENDING_AORTA]] = (1, 2, 3, 4)
APEX = np.array([-0.66, 0.50, -0.56])  # direction of the long axis, from the base to the apex, in the mean subject


def trunk_layers(points: FloatArray, grid: Grid, rng: Random) -> list[Layer]:
    """Body wall, lungs, mediastinum, upper abdomen and bones; later layers cover earlier ones."""
    x, y, z = points
    body = (x / rng.normal(150, 8)) ** 2 + ((y + 5) / rng.normal(92, 5)) ** 2  # 1 on the skin
    dome = rng.normal(-52, 6)
    right_side = ellipsoid(points, (82 + rng.normal(0, 3), -8, 10), (62, 74, 115)) < 0
    left_side = ellipsoid(points, (-84 + rng.normal(0, 3), -8, 10), (58, 74, 115)) < 0
    below_right = z <= dome + 12 - 0.004 * ((x - 70) ** 2 + y**2)
    below_left = z <= dome - 0.004 * ((x + 70) ** 2 + y**2)
    below_middle = (z <= dome + 8 - 0.004 * ((x - 40) ** 2 + y**2)) & (x > -25) & (body < 0.78)
    lungs = (right_side & ~below_right) | (left_side & ~below_left)
    # Two noise fields are near zero together along curves only: thread-like vessels that branch.
    vessels = lungs & (np.hypot(grid.noise(rng, 14), grid.noise(rng, 14)) < 0.35)
    spine = np.hypot(x - rng.normal(0, 3), y + 58) - rng.normal(20, 1.5)
    disk = np.mod(z + rng.uniform(0, 28), 28) < 6
    rib = (np.mod(z + 0.35 * np.abs(x) + rng.uniform(0, 26), 26) < 8) & (np.abs(x) > 30)
    cage = (body > 0.60) & (body < rng.uniform(0.74, 0.80))
    return [
        (Tissue.FAT, body < 1),
        (Tissue.MUSCLE, body < rng.uniform(0.78, 0.88)),
        (Tissue.LUNG, lungs),
        (Tissue.LUNG_VESSEL, vessels),
        (Tissue.STOMACH, left_side & below_left & (x < -20)),
        (Tissue.PERICARDIAL_FAT, tube(points, [(0, 5, 20), (0, 5, 120)], 36) < 0),
        (Tissue.LIVER, (right_side & below_right) | below_middle),
        (Tissue.BONE, (spine < 0) | (cage & rib)),
        (Tissue.MARROW, (spine < -3) | (cage & (np.abs(x) < 16) & (y > 0))),  # vertebrae and sternum
        (Tissue.MUSCLE, (spine < 0) & disk),
        (Tissue.AIR, tube(points, [(0, -18, 45), (0, -20, 120)], 8) < 0),  # trachea
    ]


@dataclass(frozen=True)
class LeftVentricle:
    """Center of the valve plane, unit vector to the apex, and distances to cavity and wall, not yet cut at the base."""

    base: Vector
    axis: Vector
    cavity: FloatArray
    wall: FloatArray


def draw_left_ventricle(heart: FloatArray, rng: Random) -> LeftVentricle:
    """Draws two nested ellipsoids whose axis points to the left, front and bottom."""
    axis = APEX + rng.normal(0, 0.07, 3)
    axis /= np.linalg.norm(axis)
    across = np.cross(axis, [0, 0, 1])
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(axis, across), axis], axis=1)
    center, radius, length = np.array([-20, 4, -14]), rng.normal(21.5, 2), rng.normal(43, 3)
    radii = np.array([radius, radius, length])
    cavity = ellipsoid(heart, center, radii, axes)
    wall = ellipsoid(heart, center, radii + np.clip(rng.normal(10, 1.3), 7.5, 13), axes)
    return LeftVentricle(center - axis * rng.uniform(0.35, 0.50) * length, axis, cavity, wall)


def right_heart_layers(heart: FloatArray, ventricle: LeftVentricle, rng: Random) -> list[Layer]:
    """Fat around the heart, right ventricle and atrium, superior vena cava and pulmonary arteries."""
    fat = ellipsoid(heart, (-8, 0, -8), (62, 50, 70), rotation((0, 1, 0), 0.4))
    center = np.array([10, 24, -8]) + rng.normal(0, 2, 3)
    right = ellipsoid(heart, center, np.array([27, 24, 36]) * rng.normal(1, 0.05), rotation((0, 1, 0), -0.5))
    atrium_center = np.array([42, -6, -8]) + rng.normal(0, 2, 3)
    atrium = ellipsoid(heart, atrium_center, np.array([22, 24, 30]) * rng.normal(1, 0.06))
    cava = tube(heart, atrium_center + np.array([(-2, -4, 20), (-4, -2, 100)]), 8)
    root, bend, fork, left_end, right_end = center + np.array(
        [(-18, 2, 30), (-26, -2, 48), (-24, -12, 60), (-62, -28, 60), (32, -26, 58)]
    )
    branches = tube(heart, [left_end, fork, right_end], 9)
    artery = np.minimum(tube(heart, [root, bend, fork], rng.normal(13, 1)), branches)
    return [
        (Tissue.PERICARDIAL_FAT, fat < 0),
        (Tissue.RIGHT_WALL, right < 3),
        (Tissue.MUSCLE, atrium < 2),
        (Tissue.RIGHT_ATRIUM, atrium < 0),
        (Tissue.RIGHT_VENTRICLE, (right < 0) & (ventricle.wall > 0)),
        (Tissue.PERICARDIAL_FAT, (artery < 2) & (right > 3)),
        (Tissue.PULMONARY_ARTERY, artery < 0),
        (Tissue.VENA_CAVA, cava < 0),
    ]


def left_heart_layers(heart: FloatArray, ventricle: LeftVentricle, grid: Grid, rng: Random) -> list[Layer]:
    """Left atrium with two veins, aorta up to the arch, and the left ventricle, cut at its base, over all."""
    center = ventricle.base - ventricle.axis * rng.normal(17, 1.5) + np.array([4, -12, 4]) + rng.normal(0, 1.5, 3)
    radii = np.array([26, 19, 22]) * rng.normal(1, 0.06, 3)
    atrium = ellipsoid(heart, center, radii, rotation(rng.standard_normal(3), 0.2))
    veins = tube(heart, center + np.array([(-50, -12, 8), (0, 0, 0), (50, -12, 8)]), 6)
    path = np.array([(12, 10, 10), (20, 13, 26), (22, 14, 48), (16, 10, 64), (6, -4, 74), (-6, -26, 72)])
    nodes = ventricle.base + path + rng.normal(0, 1.5, (6, 3))
    radius = rng.normal(13.5, 1.3)
    ascending = tube(heart, nodes[:4], radius)
    arch = tube(heart, [*nodes[3:], (-22, -48, 40)], 0.88 * radius)
    is_arch = heart[2] > nodes[3, 2] + 2
    is_ventricle = np.tensordot(ventricle.axis, heart - column(ventricle.base), axes=1) > 0
    papillary = 1.3 * grid.noise(rng, 14)
    return [
        (Tissue.MUSCLE, atrium < 2),
        (Tissue.PULMONARY_VEIN, veins < 0),
        (Tissue.LEFT_ATRIUM, atrium + grid.noise(rng, 22) < 0),
        (Tissue.MUSCLE, ascending < 1.5),
        (Tissue.DESCENDING_AORTA, (arch < 0) | ((ascending < 0) & is_arch)),
        (Tissue.ASCENDING_AORTA, (ascending < 0) & ~is_arch),
        (Tissue.MYOCARDIUM, is_ventricle & (ventricle.wall < 0)),
        (Tissue.LEFT_VENTRICLE, is_ventricle & (ventricle.cavity + papillary < 0)),
    ]


@dataclass(frozen=True)
class Heart:
    """A heart on a grid: its tissues with the chest around it, its points in coordinates of its own, its ventricle."""

    tissues: Tissues
    points: FloatArray
    ventricle: LeftVentricle


def draw_heart(grid: Grid, rng: Random, turn: Vector = IDENTITY) -> Heart:
    """Draws a subject's heart and chest and samples them on the grid; `turn` rotates the heart (3x3)."""
    warp = np.stack([grid.noise(rng, 27) for _ in range(3)])
    points = grid.points() + warp * np.float32(rng.uniform(1.5, 3.5))
    pose = turn @ rotation(rng.standard_normal(3), np.deg2rad(rng.normal(0, 6)))
    scale = np.clip(rng.normal(1, 0.07), 0.88, 1.12) * rng.normal(1, 0.05, 3)
    heart = apply_matrix(pose.T, points - column(rng.normal(0, (5, 4, 6)))) / column(scale)
    ventricle = draw_left_ventricle(heart, rng)
    descending = tube(points, [(-27 - rng.normal(0, 3), -50, 60), (-24, -46, -120)], rng.normal(11.5, 1))
    layers = [
        *trunk_layers(points, grid, rng),
        *right_heart_layers(heart, ventricle, rng),
        *left_heart_layers(heart, ventricle, grid, rng),
        (Tissue.DESCENDING_AORTA, (descending < 0) & (ventricle.wall > 0)),
    ]
    return Heart(cover(grid.shape, layers), heart, ventricle)


def draw_tissues(grid: Grid, rng: Random) -> Tissues:
    """Draws a subject's heart and chest and samples them on the grid."""
    return draw_heart(grid, rng).tissues
