"""Draws the grids of scans: coronal slices of the heart, axial slices of the abdomen, tilted short-axis stacks."""

from __future__ import annotations

import numpy as np

from phantoms.geometry import Grid, Random, Vector, rotation
from phantoms.heart import APEX

FIELD_OF_VIEW = np.array([150.0, 96.0, 150.0])  # mm: left-right, anterior-posterior, superior-inferior
FIELD_CENTER = np.array([0.0, -4.0, 0.0])  # mm
SHORT_AXIS_FIELD = {"bssfp": 240.0, "mr_t2": 220.0, "lge": 140.0}  # mm, of a slice
VENTRICLE_CENTER = np.array([-20.0, 4.0, -14.0])  # mm, in the heart


def coronal_grid(rng: Random, spacing: float) -> Grid:
    """Draws coronal slices, up to 1.6 pixels apart and in about half of the subjects tilted by up to five degrees."""
    pixel = spacing * rng.uniform(0.9, 1.1)
    voxel = np.array([pixel, pixel * rng.uniform(1.0, 1.6), pixel])
    field_of_view = FIELD_OF_VIEW * rng.uniform(0.97, 1.05, 3)
    center = FIELD_CENTER + rng.uniform(-3, 3, 3)
    angle = np.deg2rad(rng.uniform(1, 5)) * rng.integers(2)
    turn = rotation(rng.standard_normal(3), angle)
    return _grid(turn, voxel, field_of_view, center, slice_axis=1)


def axial_grid(rng: Random, spacing: float, modality: str) -> Grid:
    """Draws axial slices of the abdomen: MR of the upper abdomen, thick and tilted a little; longer, thinner CT."""
    is_ct = modality == "ct"
    pixel = spacing * rng.uniform(0.9, 1.1)
    voxel = np.array([pixel, pixel, rng.uniform(3, 5) if is_ct else rng.uniform(5.5, 8)])
    low, high = (rng.uniform(-190, -150), rng.uniform(120, 145)) if is_ct else (-105, rng.uniform(95, 115))
    across = rng.uniform(370, 410) if is_ct else rng.uniform(345, 385)
    field_of_view = np.array([across, across * rng.uniform(0.70, 0.78), high - low])
    center = np.array([rng.normal(0, 5), rng.normal(-5, 5), (low + high) / 2])
    angle = 0.0 if is_ct else np.deg2rad(rng.normal(0, 2.5))
    return _grid(rotation(rng.standard_normal(3), angle), voxel, field_of_view, center, slice_axis=2)


def heart_turn(rng: Random) -> Vector:
    """Draws how a subject's heart lies in the chest: a 3x3 rotation by about twelve degrees."""
    return rotation(rng.standard_normal(3), np.deg2rad(rng.normal(0, 12)))


def short_axis_grid(rng: Random, spacing: float, modality: str, turn: Vector) -> Grid:
    """Draws a stack of slices about 8 to 10 mm apart across the long axis of a heart that is turned by `turn` (3x3).

    Columns, rows and slices are the axes. Rows and columns are turned in the plane by about fifteen degrees, as the
    technologist chooses to avoid wrapping, and the stack is a few degrees off the heart's axis.
    """
    extent = SHORT_AXIS_FIELD[modality]
    pixel = spacing * rng.uniform(0.7, 0.95)
    field_of_view = np.array([extent, extent, 0]) * rng.uniform(0.95, 1.08)
    thickness, slices = rng.uniform(8, 10), int(rng.integers(11, 14))
    field_of_view[2] = thickness * slices
    normal = turn @ APEX / np.linalg.norm(APEX)
    columns = np.cross(normal, turn @ np.array([0.41, -0.41, -0.82]))  # to the side of the heart's free wall
    columns /= np.linalg.norm(columns)
    axes = np.stack([columns, np.cross(columns, normal), normal], axis=1)
    axes = rotation(normal, np.deg2rad(rng.normal(0, 15))) @ axes
    axes = rotation(rng.standard_normal(3), np.deg2rad(rng.normal(0, 4))) @ axes
    center = turn @ (VENTRICLE_CENTER + 12 * APEX) + axes @ (rng.normal(0, 0.03 * extent, 3) * (1, 1, 0.5))
    return _grid(axes, np.array([pixel, pixel, thickness]), field_of_view, center, slice_axis=2)


def _grid(axes: Vector, voxel: Vector, field_of_view: Vector, center: Vector, slice_axis: int) -> Grid:
    """Returns the grid around a center; the columns of the 3x3 `axes` are its directions."""
    x, y, z = (int(size) for size in np.round(field_of_view / voxel))
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(voxel)
    affine[:3, 3] = center - affine[:3, :3] @ (np.array([x, y, z]) - 1) / 2
    return Grid((x, y, z), voxel, affine, field_of_view, slice_axis)
