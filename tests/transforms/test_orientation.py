"""Acquired slices: one view of a stack however it is stored, stable while it is tilted, and that of the planes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from builders import ALL_AXCODES, Array, diagonal_affine, stored_as
from monai.data import MetaTensor
from monai.transforms import Orientationd
from scipy.spatial.transform import Rotation
from sifa.transforms import SliceOrientationd
from sifa.transforms.orientation import ACQUIRED, AXCODES, slice_axis, slice_turn, view_direction
from sifa.transforms.slices import as_slices, slice_steps

APEX = np.array([-0.66, 0.50, -0.56]) / np.linalg.norm([-0.66, 0.50, -0.56])  # of the heart, in RAS
STACK = (5, 6, 4)


def stack_affine(axes: Array, steps: Sequence[float] | Array = (1.5, 1.5, 8.0)) -> Array:
    """Returns the affine of a volume whose axes have these directions (columns) and voxel sizes."""
    affine = np.eye(4)
    affine[:3, :3] = axes * steps
    return affine


def axes_across(normal: Array, angle: float = 0.0) -> Array:
    """Returns axes of slices across a direction: two in the plane, turned by `angle` degrees, and the direction."""
    first = np.cross(normal, [0.2, 0.3, 1.0])
    first /= np.linalg.norm(first)
    axes = np.stack([first, np.cross(normal, first), normal], axis=1)
    return Rotation.from_rotvec(np.deg2rad(angle) * normal).as_matrix() @ axes


def restored(volume: Array, affine: Array) -> list[tuple[Array, Array]]:
    """Returns the volume stored in all 48 orders and directions of its axes."""
    found = []
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        turn = np.stack([order, signs], axis=1)
        turned = nib.orientations.apply_orientation(volume, turn)
        found.append((turned, affine @ nib.orientations.inv_ornt_aff(turn, volume.shape)))
    return found


def frame(affine: Array) -> Array:
    """Returns the directions of rows, columns and slices as the columns of a matrix."""
    turn = slice_turn(affine, ACQUIRED)
    directions = affine[:3, :3] / nib.affines.voxel_sizes(affine)
    order = np.argsort(turn[:, 0])
    return directions[:, order] * turn[order, 1]


@pytest.mark.parametrize("angle", [0, 20, 44, 46, 90, 200])
def test_a_stack_gives_the_same_slices_however_it_is_stored(angle: float) -> None:
    volume = np.random.default_rng(0).random(STACK)
    affine = stack_affine(axes_across(APEX, angle))
    expected = as_slices(volume[None], affine, ACQUIRED)
    for stored, stored_affine in restored(volume, affine):
        assert np.array_equal(as_slices(stored[None], stored_affine, ACQUIRED), expected)
        assert slice_steps(stored_affine, ACQUIRED) == pytest.approx([1.5, 1.5, 8.0])
        assert view_direction(stored_affine, ACQUIRED) == pytest.approx(APEX)


@pytest.mark.parametrize(
    ("plane", "steps"), [("axial", (0.7, 0.7, 5.0)), ("coronal", (0.7, 5.0, 0.7)), ("axial", (0.7, 0.7, 0.7))]
)
def test_slices_acquired_in_a_plane_are_exactly_those_of_the_plane(
    plane: str, steps: tuple[float, float, float]
) -> None:
    volume, affine = np.random.default_rng(0).random(STACK), diagonal_affine(steps)
    for axcodes in ALL_AXCODES:
        stored, stored_affine = stored_as(volume, affine, axcodes)
        by_plane = as_slices(stored[None], stored_affine, AXCODES[plane])
        assert np.array_equal(as_slices(stored[None], stored_affine, ACQUIRED), by_plane)


def test_sagittal_slices_are_those_of_the_plane_in_the_other_order() -> None:
    volume, affine = np.random.default_rng(0).random(STACK), diagonal_affine((4.0, 1.0, 1.0))
    by_plane = as_slices(volume[None], affine, AXCODES["sagittal"])
    assert np.array_equal(as_slices(volume[None], affine, ACQUIRED), by_plane[::-1])


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 1)])
@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 1, 0), (1, 0, 0)])
def test_slices_of_a_plane_keep_their_view_while_they_are_tilted_by_up_to_thirty_degrees(
    normal: tuple[int, int, int], axis: tuple[int, int, int]
) -> None:
    steps = (1.0, 1.0, 1.0) + 5.0 * np.array(normal)
    expected = frame(stack_affine(np.eye(3), steps))
    for degrees in range(-30, 31):
        turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
        assert np.allclose(frame(stack_affine(turn, steps)), turn @ expected, atol=1e-9), degrees


def test_a_short_axis_stack_keeps_its_view_where_the_nearest_axes_of_the_patient_change() -> None:
    steps = (1.5, 1.5, 8.0)
    rows = np.array([1, -1, -2]) / np.sqrt(6)  # as cardiologists look at the heart: to its inferior wall
    rows -= (rows @ APEX) * APEX
    rows /= np.linalg.norm(rows)
    upright = np.stack([rows, np.cross(APEX, rows), -APEX], axis=1)
    rng = np.random.default_rng(0)
    nearest: set[tuple[str, ...]] = set()
    for _ in range(200):
        axis = rng.standard_normal(3)
        turn = Rotation.from_rotvec(np.deg2rad(rng.uniform(0, 20)) * axis / np.linalg.norm(axis)).as_matrix()
        affine = stack_affine(turn @ upright, steps)
        nearest.add(nib.aff2axcodes(affine))
        assert np.allclose(frame(affine), turn @ upright, atol=1e-9)
    assert len(nearest) >= 3  # codes of the nearest axes would show these stacks in different views


def test_the_view_of_a_short_axis_stack_is_that_of_the_textbooks() -> None:
    rows, columns, slices = frame(stack_affine(axes_across(APEX, 10))).T
    assert slices @ APEX < -0.99  # seen from the apex
    assert rows[2] < -0.5  # the inferior wall is at the bottom
    assert columns[0] < -0.5  # the right ventricle, on the patient's right, is at the left


def test_slices_run_along_the_coarsest_axis_and_are_axial_where_there_is_none() -> None:
    assert slice_axis(diagonal_affine((1.0, 3.0, 1.0))) == 1
    assert slice_axis(diagonal_affine((1.0, 1.05, 1.0))) == 2
    assert slice_axis(diagonal_affine((0.7, 0.7, 0.5))) == 2  # thin axial slices
    oblique = Rotation.from_euler("x", 20, degrees=True).as_matrix()
    for _, affine in restored(np.zeros(STACK), stack_affine(oblique, (1.0, 1.0, 1.0))):
        assert abs(affine[2, slice_axis(affine)]) > 0.9


@pytest.mark.parametrize("orientation", [*AXCODES.values(), ACQUIRED])
def test_the_transform_turns_volumes_as_the_inferer_does(orientation: str) -> None:
    volume = np.random.default_rng(0).random(STACK)
    affine = stack_affine(axes_across(APEX, 30)) + np.eye(4, k=3) * 20
    for stored, stored_affine in restored(volume, affine)[::5]:
        image = MetaTensor(torch.from_numpy(stored.copy())[None], affine=torch.from_numpy(stored_affine))
        turned = SliceOrientationd("image", orientation)({"image": image})["image"]
        expected = as_slices(stored[None], stored_affine, orientation)
        assert np.array_equal(turned.numpy(), np.moveaxis(expected, 0, -1))
        voxel = np.argwhere(turned.numpy()[0] == volume[1, 2, 3])[0]
        point = nib.affines.apply_affine(turned.affine.numpy(), voxel)
        assert point == pytest.approx(nib.affines.apply_affine(affine, (1, 2, 3)))
        assert np.allclose(image.affine, stored_affine)  # the input is as it was


@pytest.mark.parametrize("plane", AXCODES)
def test_for_axis_codes_the_transform_does_what_monai_does(plane: str) -> None:
    volume = torch.rand((1, *STACK), generator=torch.Generator().manual_seed(0))
    affine = torch.from_numpy(stack_affine(axes_across(APEX, 30)))
    labels = (("L", "R"), ("P", "A"), ("I", "S"))
    monai: Any = Orientationd("image", axcodes=AXCODES[plane], labels=labels)
    expected = monai({"image": MetaTensor(volume, affine=affine)})["image"]
    found = SliceOrientationd("image", AXCODES[plane])({"image": MetaTensor(volume, affine=affine)})["image"]
    assert torch.equal(found.as_tensor(), expected.as_tensor())
    assert torch.allclose(found.affine, expected.affine)
