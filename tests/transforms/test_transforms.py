"""Transforms of whole volumes: anatomical planes, spacing, intensities, and the way back to the scan's own grid."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import ALL_AXCODES, Array, diagonal_affine, refusal, stored_as, write_dicom_series, write_nifti
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImaged, Orientationd
from sifa.transforms.dictionary import AlignGridd, NormalizeIntensityd, Spacingd
from sifa.transforms.orientation import AXCODES

SPACING = (1.5, 1.0, 2.0)

# Where in the patient each axis of a slice stack leads: index in millimeters (right, anterior, superior), and its sign.
LEADS_TO = {
    "axial": {"rows": (1, -1), "columns": (0, -1), "slices": (2, 1)},  # to posterior, to left, to superior
    "coronal": {"rows": (2, -1), "columns": (0, -1), "slices": (1, -1)},  # to inferior, to left, to posterior
    "sagittal": {"rows": (2, -1), "columns": (1, -1), "slices": (0, -1)},  # to inferior, to posterior, to left
}


def loaded(volume: Array, affine: Array) -> MetaTensor:
    """Returns the volume with a channel, as `LoadImaged` would from a NIfTI file."""
    meta = {"affine": torch.as_tensor(affine), "space": "RAS"}
    return MetaTensor(torch.as_tensor(np.ascontiguousarray(volume))[None], meta=meta)


def smooth_volume(shape: tuple[int, int, int]) -> Array:
    """Returns a slowly varying volume, which resampling hardly changes."""
    waves = [np.cos(np.linspace(0, 2 + axis, size)) for axis, size in enumerate(shape)]
    return (waves[0][:, None, None] + waves[1][None, :, None] + waves[2][None, None, :]).astype(np.float32)


# --- orientation ---


def test_there_are_48_ways_to_store_a_volume() -> None:
    assert len(set(ALL_AXCODES)) == 48


@pytest.mark.parametrize("plane", AXCODES)
def test_however_a_volume_is_stored_its_slices_come_out_the_same(plane: str) -> None:
    volume, affine = np.random.default_rng(0).random((4, 5, 6), np.float32), diagonal_affine(SPACING)
    turn: Any = Orientationd(keys="image", axcodes=AXCODES[plane])
    expected = turn({"image": loaded(volume, affine)})["image"]

    for axcodes in ALL_AXCODES:
        found = turn({"image": loaded(*stored_as(volume, affine, axcodes))})["image"]

        assert np.array_equal(found, expected), axcodes
        assert np.allclose(found.affine, expected.affine), axcodes


@pytest.mark.parametrize("stored", ["RAS", "LPS", "SLA", "AIR"])
@pytest.mark.parametrize("plane", AXCODES)
def test_rows_columns_and_slices_lead_where_the_plane_says(tmp_path: Path, plane: str, stored: str) -> None:
    shape = (4, 5, 6)
    corner = diagonal_affine(SPACING)[:3, 3]
    grid = np.moveaxis(np.indices(shape), 0, -1) * SPACING + corner  # (X, Y, Z, 3): right, anterior, superior in mm
    place = np.stack(
        [
            _load_and_turn(write_nifti(tmp_path / f"{axis}.nii", *_stored(grid[..., axis], stored)), plane)
            for axis in range(3)
        ]
    )

    for array_axis, name in enumerate(("rows", "columns", "slices")):
        axis, sign = LEADS_TO[plane][name]
        steps = np.diff(place, axis=array_axis + 1)
        assert np.allclose(steps[axis], sign * SPACING[axis]), f"{name} of {plane} slices"
        assert np.allclose(np.delete(steps, axis, axis=0), 0), f"{name} of {plane} slices"


def _stored(values: Array, axcodes: str) -> tuple[Array, Array]:
    return stored_as(values.astype(np.float32), diagonal_affine(SPACING), axcodes)


def _load_and_turn(path: Path, plane: str) -> Array:
    data = Compose(
        [LoadImaged(keys="image", ensure_channel_first=True), Orientationd(keys="image", axcodes=AXCODES[plane])]
    )({"image": str(path)})
    return np.asarray(data["image"])[0]


@pytest.mark.parametrize("plane", AXCODES)
def test_a_dicom_series_gives_the_slices_of_the_same_volume_as_nifti(tmp_path: Path, plane: str) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, size=(6, 7, 5)).astype(np.int16)  # LPS
    series = write_dicom_series(tmp_path / "series", volume, SPACING)
    copy = write_nifti(tmp_path / "copy.nii.gz", volume, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]))

    assert np.array_equal(_load_and_turn(series, plane), _load_and_turn(copy, plane))


# --- oblique grids ---


def tilted(affine: Array, degrees: float) -> Array:
    """Returns the affine of the same voxels, turned about all three axes of the patient."""
    result = affine.copy()
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    for first, second in ((0, 1), (1, 2), (0, 2)):
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = cos, -sin, sin, cos
        result[:3, :3] = turn @ result[:3, :3]
    return result


@pytest.mark.parametrize("stored", ["RAS", "LPI", "SLA", "AIR"])
def test_an_oblique_grid_counts_as_the_nearest_one_along_the_axes_of_the_patient(stored: str) -> None:
    volume, affine = stored_as(smooth_volume((4, 5, 6)), diagonal_affine(SPACING), stored)
    image = loaded(volume, tilted(affine, 15))

    aligned = AlignGridd("image")({"image": image, "name": "scan"})["image"]

    assert np.allclose(aligned.affine[:3, :3], affine[:3, :3])
    assert np.array_equal(aligned[0], volume)
    assert np.array_equal(image.affine, tilted(affine, 15))  # the input keeps its own


@pytest.mark.parametrize("plane", AXCODES)
def test_a_tilt_changes_neither_the_slices_nor_the_way_back(plane: str) -> None:
    volume, affine = smooth_volume((12, 14, 10)), diagonal_affine(SPACING)
    preprocessing = Compose(
        [
            Orientationd(keys="image", axcodes=AXCODES[plane]),
            AlignGridd(keys="image"),
            Spacingd(keys="image", pixdim=[0.7, 0.7, 0], mode="bilinear"),
        ]
    )
    straight = preprocessing({"image": loaded(volume, affine)})
    oblique = preprocessing({"image": loaded(volume, tilted(affine, 10))})
    masks = []
    for data in (straight, oblique):
        data["pred"] = MetaTensor((torch.as_tensor(data["image"]) > 0.5).to(torch.uint8))
        inverse = Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=True)
        masks.append(inverse(data)["pred"])

    assert np.allclose(straight["image"], oblique["image"], atol=1e-5)
    assert masks[0].shape == (1, *volume.shape)
    assert torch.equal(masks[0].as_tensor(), masks[1].as_tensor())


# --- spacing ---


def test_resampling_leaves_sibling_entries_of_an_image_alone(tmp_path: Path) -> None:
    # MONAI Label adds the string `image_path` to `image`; MONAI's own transform expects a dictionary.
    path = write_nifti(tmp_path / "scan.nii.gz", smooth_volume((6, 7, 5)), diagonal_affine(SPACING))
    data = LoadImaged(keys="image", ensure_channel_first=True)({"image": str(path)})
    siblings: dict[Hashable, Any] = {"image_path": str(path), "image_number": 3, "image_none": None, "other": "text"}

    result = Spacingd(keys="image", pixdim=[0.5, 0.5, 0], mode="bilinear")({**data, **siblings})

    assert {key: result[key] for key in siblings} == siblings
    assert result["image"].shape == (1, 16, 13, 5)  # from center to center: 5 x 1.5 mm, 6 x 1 mm
    assert set(result) == {"image", *siblings}


def test_resampling_keeps_what_it_was_given_and_a_spacing_of_0_keeps_the_scans_own() -> None:
    image = loaded(smooth_volume((6, 7, 5)), diagonal_affine(SPACING))
    data: dict[Hashable, Any] = {"image": image, "image_path": "scan"}

    result = Spacingd(keys="image", pixdim=[0.75, 2.0, 0], mode="bilinear")(data)

    assert set(data) == {"image", "image_path"}
    assert data["image"].shape == (1, 6, 7, 5)
    assert np.allclose(result["image"].pixdim, [0.75, 2.0, 2.0])


def test_resampling_can_be_undone_beside_sibling_entries(tmp_path: Path) -> None:
    volume = smooth_volume((12, 14, 10))
    path = write_nifti(tmp_path / "scan.nii.gz", volume, diagonal_affine(SPACING))
    preprocessing = Compose(
        [
            LoadImaged(keys="image", ensure_channel_first=True),
            Spacingd(keys="image", pixdim=[0.8, 0.8, 1.1], mode="bilinear"),
        ]
    )
    data = preprocessing({"image": str(path), "image_path": str(path)})
    data["pred"] = MetaTensor(torch.as_tensor(data["image"]))

    restored = Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False)(data)["pred"]

    assert data["image"].shape != (1, 12, 14, 10)
    assert restored.shape == (1, 12, 14, 10)
    assert np.abs(restored[0].numpy() - volume).max() < 0.1


# --- intensities ---


@pytest.mark.parametrize(("lower", "upper"), [(-200.0, 400.0), (0, 1)])
def test_a_window_is_mapped_linearly_and_clipped(lower: float, upper: float) -> None:
    image = torch.linspace(-1000, 1000, 4001).reshape(1, 1, 4001)

    result = NormalizeIntensityd("image", {"mode": "window", "lower": lower, "upper": upper})({"image": image})["image"]

    expected = np.clip(2 * (image.numpy() - lower) / (upper - lower) - 1, -1, 1)
    assert np.allclose(result, expected, atol=1e-6)
    assert (float(result.min()), float(result.max())) == (-1.0, 1.0)


def test_percentiles_are_each_volumes_own_and_what_lies_outside_is_clipped() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 9, 10, 11), generator=generator) * 500 + 40
    ranked = np.sort(image.numpy().ravel().astype(np.float64))
    # 990 voxels: the percentiles lie at the fractional ranks 989 * 2 / 100 and 989 * 97 / 100, counted from 0.
    lower = ranked[19] + 0.78 * (ranked[20] - ranked[19])
    upper = ranked[959] + 0.33 * (ranked[960] - ranked[959])
    normalize = NormalizeIntensityd("image", {"mode": "percentiles", "lower": 2, "upper": 97})

    result = normalize({"image": image})["image"]
    rescaled = normalize({"image": image * 7 - 300})["image"]

    assert np.allclose(result, np.clip(2 * (image.numpy() - lower) / (upper - lower) - 1, -1, 1), atol=1e-4)
    assert (float(result.min()), float(result.max())) == (-1.0, 1.0)
    assert np.allclose(result, rescaled, atol=1e-4)


@pytest.mark.parametrize(
    ("mode", "dtype"), [("window", torch.int16), ("window", torch.float64), ("percentiles", torch.float64)]
)
def test_normalized_images_are_float32_and_keep_their_affine_and_their_neighbors(mode: str, dtype: torch.dtype) -> None:
    volume = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    image = loaded(volume, diagonal_affine(SPACING)).to(dtype)
    data: dict[Hashable, Any] = {"image": image, "label": image}

    result = NormalizeIntensityd("image", {"mode": mode, "lower": 5, "upper": 50})(data)

    assert result["image"].dtype == torch.float32
    assert np.array_equal(result["image"].affine, diagonal_affine(SPACING))
    assert result["label"] is image
    assert data["image"] is image
    assert np.array_equal(image[0], volume)


def test_an_unknown_intensity_mode_is_refused_with_the_choices() -> None:
    message = refusal(
        lambda: NormalizeIntensityd("image", {"mode": "z-score", "lower": 0, "upper": 1})({"image": torch.zeros(1, 2)})
    )

    assert "'z-score'" in message
    assert "window" in message
    assert "percentiles" in message
