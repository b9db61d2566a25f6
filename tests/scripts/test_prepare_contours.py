"""Contours of RTSTRUCT on the grid of their scan: analytic shapes, holes, both orders of slices, any storage order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from builders import ALL_AXCODES, Array, refusal, stored_as
from layouts import write_contours
from preparation.contours import contour_masks, contour_names
from sifa.io.grids import Grid

SHAPE = (40, 32, 6)
STEPS = np.array([0.8, 1.1, 3.0])  # mm
ORIGIN = np.array([-20.0, 35.0, -100.0])  # LPS, mm
AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])
AFFINE[:3, :3] = np.diag(STEPS * (-1, -1, 1))
AFFINE[:3, 3] = ORIGIN * (-1, -1, 1)
GRID = Grid(SHAPE, AFFINE)
CLOSE = 0.03  # mm: a voxel this close to a contour may count as on it

Points = Sequence[tuple[float, float]]


def place(points: Sequence[tuple[float, float]], index: float) -> tuple[float, Points]:
    """Returns a contour in mm from indices of columns and rows in a slice."""
    height = float(ORIGIN[2] + index * STEPS[2])
    return height, [(float(ORIGIN[0] + x * STEPS[0]), float(ORIGIN[1] + y * STEPS[1])) for x, y in points]


def circle(x: float, y: float, radius: float, count: int = 720) -> Points:
    """Returns the points of a circle in mm around a voxel's index, as indices of columns and rows."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [(x + radius * np.cos(a) / STEPS[0], y + radius * np.sin(a) / STEPS[1]) for a in angles]


def distances(x: float, y: float) -> Array:
    """Returns the distance in mm of the voxels of a slice from a point given in indices."""
    columns, rows = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), indexing="ij")
    return np.hypot((columns - x) * STEPS[0], (rows - y) * STEPS[1])


def square(low: float, high: float) -> Points:
    """Returns the corners of a square in indices."""
    return [(low, low), (high, low), (high, high), (low, high)]


def masks(folder: Path, structures: dict[str, list[tuple[float, Points]]], grid: Grid = GRID) -> dict[str, Array]:
    """Returns the masks of an RTSTRUCT with these contours."""
    path = write_contours(folder / "contours.dcm", None, structures)
    assert contour_names(path) == list(structures)
    return contour_masks(path, grid, [name.casefold() for name in structures])


def test_a_disk_is_filled_by_the_centers_of_voxels(tmp_path: Path) -> None:
    found = masks(tmp_path, {"Heart": [place(circle(19.3, 15.2, 8.7), index) for index in range(1, 5)]})["heart"]

    expected = distances(19.3, 15.2) < 8.7
    clear = np.abs(distances(19.3, 15.2) - 8.7) > CLOSE
    assert expected.sum() > 250
    for index in range(SHAPE[2]):
        shown = expected if 1 <= index <= 4 else np.zeros_like(expected)
        assert np.array_equal(found[:, :, index][clear], shown[clear])


def test_the_area_of_an_ellipse_is_that_of_its_formula(tmp_path: Path) -> None:
    half_axes = np.array([9.0, 12.0])  # mm
    angles = np.linspace(0, 2 * np.pi, 500, endpoint=False)
    points = [(20 + half_axes[0] * np.cos(a) / STEPS[0], 16 + half_axes[1] * np.sin(a) / STEPS[1]) for a in angles]

    found = masks(tmp_path, {"a": [place(points, 2)]})["a"]

    assert found.sum() * STEPS[0] * STEPS[1] == pytest.approx(np.pi * half_axes.prod(), rel=0.02)


@pytest.mark.parametrize("is_reversed", [False, True], ids=["same direction", "opposite direction"])
def test_a_contour_within_a_contour_is_a_hole_and_one_within_it_an_island(is_reversed: bool, tmp_path: Path) -> None:
    rings = [circle(20.3, 16.2, radius) for radius in (12.0, 8.0, 4.0)]
    if is_reversed:
        rings[1] = list(reversed(rings[1]))

    found = masks(tmp_path, {"ring": [place(ring, 3) for ring in rings]})["ring"][:, :, 3]

    away = distances(20.3, 16.2)
    expected = ((away < 12) & ~(away < 8)) | (away < 4)
    clear = np.min([np.abs(away - radius) for radius in (4, 8, 12)], axis=0) > CLOSE
    assert np.array_equal(found[clear], expected[clear])


def test_a_hole_that_a_channel_connects_to_the_outline_is_a_hole(tmp_path: Path) -> None:
    outer, inner = square(4.5, 20.5), square(8.5, 15.5)
    keyhole = [*outer, outer[0], inner[0], *reversed(inner), outer[0]]

    found = masks(tmp_path, {"a": [place(keyhole, 0)]})["a"][:, :, 0]

    expected = np.zeros(SHAPE[:2], dtype=bool)
    expected[5:21, 5:21] = True
    expected[9:16, 9:16] = False
    assert np.array_equal(found, expected)


def test_voxels_on_the_outline_belong_to_the_structure_also_at_a_hole(tmp_path: Path) -> None:
    """Programs that outline masks put contours through the centers of the outermost voxels."""
    found = masks(tmp_path, {"a": [place(square(5, 20), 1), place(square(9, 15), 1)]})["a"][:, :, 1]

    expected = np.zeros(SHAPE[:2], dtype=bool)
    expected[5:21, 5:21] = True
    expected[10:15, 10:15] = False
    assert np.array_equal(found, expected)


def test_rounding_in_the_file_does_not_move_the_outline(tmp_path: Path) -> None:
    jitter = 0.01
    points = [
        (x + jitter * sign, y - jitter * sign) for sign, (x, y) in zip((1, -1, 1, -1), square(5, 20), strict=True)
    ]

    found = masks(tmp_path, {"a": [place(points, 1)]})["a"][:, :, 1]

    assert found.sum() == 16 * 16


@pytest.mark.parametrize("axcodes", ["LPS", "LPI", *ALL_AXCODES[::11]])
def test_slices_in_either_order_and_axes_in_any_order_show_the_same(axcodes: str, tmp_path: Path) -> None:
    structures = {"a": [place(circle(12.2 + index, 14.1, 5.0), index) for index in range(1, 4)]}
    expected = masks(tmp_path, structures)["a"]
    turned, affine = stored_as(expected, AFFINE, axcodes)

    found = masks(tmp_path, structures, Grid(turned.shape, affine))["a"]

    assert expected.any()
    assert np.array_equal(found, turned)


def test_a_tilted_grid_is_filled_along_its_own_slices(tmp_path: Path) -> None:
    angle = np.deg2rad(17)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = AFFINE.copy()
    affine[:3] = turn @ AFFINE[:3]
    contours = [place(circle(20.2, 15.1, 6.0), index) for index in (2, 3)]
    lps = np.diag([-1.0, -1.0, 1.0])
    path = write_contours(tmp_path / "contours.dcm", None, {"a": contours})
    dicom = pydicom.dcmread(path)
    for contour in dicom.ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        contour.ContourData = [f"{value:.4f}" for value in (points @ (lps @ turn @ lps).T).ravel()]
    dicom.save_as(path)

    found = contour_masks(path, Grid(SHAPE, affine), ["a"])["a"]

    away = distances(20.2, 15.1)
    clear = np.abs(away - 6) > CLOSE
    for index in range(SHAPE[2]):
        assert np.array_equal(found[:, :, index][clear], (away < 6)[clear] & (index in (2, 3)))


def test_a_structure_that_reaches_over_the_edge_of_the_scan_is_cut_there(tmp_path: Path) -> None:
    found = masks(tmp_path, {"a": [place(square(-5.5, 3.5), 0)]})["a"]

    assert found[:, :, 0].sum() == found[:4, :4, 0].sum() == 16


def test_only_the_wanted_structures_are_filled(tmp_path: Path) -> None:
    contours = {"A": [place(square(2, 9), 1)], "B": [place(square(2, 9), 2)]}
    path = write_contours(tmp_path / "contours.dcm", None, contours)

    assert set(contour_masks(path, GRID, ["b"])) == {"b"}


def test_contours_that_do_not_fit_the_scan_are_refused_with_the_structure(tmp_path: Path) -> None:
    between = refusal(lambda: masks(tmp_path, {"Liver": [place(square(2, 9), 1.5)]}))
    beyond = refusal(lambda: masks(tmp_path, {"Liver": [place(square(2, 9), 6)]}))
    grid = Grid((40, 32, 12), AFFINE)
    striped = refusal(lambda: masks(tmp_path, {"Liver": [place(square(2, 9), index) for index in (1, 3, 5, 7)]}, grid))

    assert "liver does not lie on a slice" in between
    assert "beyond the slices" in beyond
    assert "contoured on every 2. slice only" in striped
    assert all(message.startswith(str(tmp_path / "contours.dcm")) for message in (between, beyond, striped))


def test_a_file_that_is_no_rtstruct_is_named(tmp_path: Path) -> None:
    (tmp_path / "contours.dcm").write_bytes(b"not DICOM")

    assert str(tmp_path / "contours.dcm") in refusal(lambda: contour_names(tmp_path / "contours.dcm"))
