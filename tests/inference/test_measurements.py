"""Intensities and extent of a structure, each against its formula written out over all voxels."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from builders import ALL_AXCODES, Array, diagonal_affine, stored_as
from sifa.inference import measurements
from sifa.inference.measurements import measure_voxels

SPACING = (1.5, 2.0, 3.0)


@pytest.fixture(scope="module")
def mask() -> Array:
    """Two scattered structures in 11 x 13 x 37 voxels."""
    return np.random.default_rng(0).choice(np.array([0, 1, 2], np.uint8), (11, 13, 37), p=[0.9, 0.06, 0.04])


@pytest.fixture(scope="module")
def volume() -> Array:
    return np.random.default_rng(1).integers(-1000, 2000, (11, 13, 37)).astype(np.int16)


def all_corners(mask: Array, value: int, affine: Array) -> Array:
    """Returns the eight corners of every voxel of a structure in mm, (N, 3)."""
    voxels = np.argwhere(mask == value)
    halves = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, -1).T
    return nib.affines.apply_affine(affine, (voxels[:, None] + halves[None]).reshape(-1, 3))


@pytest.mark.parametrize("codes", ALL_AXCODES)
def test_figures_do_not_depend_on_how_the_scan_is_stored(codes: str, mask: Array, volume: Array) -> None:
    affine = diagonal_affine(SPACING)
    turned_mask, turned = stored_as(mask, affine, codes)
    turned_volume, _ = stored_as(volume, affine, codes)
    found = measure_voxels(turned_volume, turned_mask, 1, turned)
    inside = volume[mask == 1].astype(float)
    assert (found.mean, found.sd) == pytest.approx((inside.mean(), inside.std()))
    extents = [(np.ptp(axis) + 1) * step for axis, step in zip(np.nonzero(mask == 1), SPACING, strict=True)]
    assert found.extent_mm == pytest.approx(extents)


@pytest.mark.parametrize("slices", [1, 3, 100])
def test_an_oblique_structure_reaches_from_corner_to_corner_however_it_is_cut(
    slices: int, mask: Array, volume: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "SLICES", slices)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * SPACING
    found = measure_voxels(volume, mask, 2, affine)
    assert found.extent_mm == pytest.approx(np.ptp(all_corners(mask, 2, affine), axis=0))
    assert found.sd == pytest.approx(volume[mask == 2].std())


def test_large_intensities_lose_no_digits() -> None:
    volume = 1e7 + np.arange(1000.0).reshape(10, 10, 10)
    found = measure_voxels(volume, np.ones((10, 10, 10), np.uint8), 1, np.eye(4))
    assert (found.mean, found.sd) == (pytest.approx(1e7 + 499.5, abs=1e-6), pytest.approx(np.arange(1000).std()))
