"""Before the network runs: what is refused, what is doubted, and that a good scan gives neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import ALL_AXCODES, Array, diagonal_affine, make_fingerprint, refusal, stored_as, write_nifti
from hostile import SHAPE, SPACING, Build, ct, header, nifti
from sifa.fingerprint.fingerprint import Fingerprint, read_fingerprint
from sifa.inference.input_checks import check_file, check_scan
from sifa.io.nifti_files import load_nifti

FINGERPRINT = make_fingerprint()
AFFINE = diagonal_affine(SPACING)


def check(volume: Array | None = None, affine: Array = AFFINE, fingerprint: Fingerprint = FINGERPRINT) -> list[str]:
    return check_scan((ct() if volume is None else volume).astype(np.float32)[None], affine, fingerprint).all


def refused(volume: Array | None = None, affine: Array = AFFINE) -> str:
    return refusal(lambda: check(volume, affine))


def with_padding(volume: Array, value: float) -> Array:
    padded = volume.copy()
    padded[:4] = value
    return padded


def with_voxel(value: float) -> Array:
    volume = ct().astype(np.float32)
    volume[10, 8, 12] = value
    return volume


def changed(row: int, column: int, value: float) -> Array:
    affine = AFFINE.copy()
    affine[row, column] = value
    return affine


# --- Values and grids -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_generated_ct_gives_neither_refusals_nor_doubts(phantom: Path, trained: Path) -> None:
    fingerprint = read_fingerprint(trained / "fingerprint.json")
    scans = sorted((phantom / "ct_images").glob("*.nii.gz"))
    assert len(scans) == 5
    for scan in scans:
        image = load_nifti(scan)
        assert check_file(scan, fingerprint) == []
        assert check(np.asarray(image.dataobj), np.asarray(image.affine), fingerprint) == []


def test_a_good_scan_gives_no_doubts_however_it_is_stored() -> None:
    for codes in ALL_AXCODES:
        assert check(*stored_as(ct(), AFFINE, codes)) == [], codes


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_voxel_that_is_no_number_is_refused(value: float) -> None:
    assert "NaN or infinite" in refused(with_voxel(value))


@pytest.mark.parametrize("value", [0.0, -1000.0, 40.0])
def test_a_scan_without_contrast_is_refused_with_its_value(value: float) -> None:
    assert f"every voxel is {value:g}" in refused(np.full(SHAPE, value))


def test_a_wrong_number_of_dimensions_or_channels_is_refused() -> None:
    volume = ct().astype(np.float32)
    assert "2 dimensions" in refusal(lambda: check_scan(volume[None, 0], AFFINE, FINGERPRINT))
    assert "4 dimensions" in refusal(lambda: check_scan(volume[None, ..., None], AFFINE, FINGERPRINT))
    assert "3 channels" in refusal(lambda: check_scan(np.stack([volume] * 3), AFFINE, FINGERPRINT))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_scan_without_voxels_is_refused(axis: int) -> None:
    assert "no voxels" in refused(np.delete(ct(), np.s_[:], axis=axis))


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (changed(0, 0, 0), "singular"),
        (changed(0, 3, np.nan), "singular"),
        (changed(1, 1, np.inf), "singular"),
        (changed(0, 2, 2.0), "sheared"),
        (changed(1, 2, 0.3), "sheared"),
        (changed(2, 2, 25.5), "25.5 mm wide"),
        (diagonal_affine((5e-4, 5e-4, 5e-4)), "no spacing"),
    ],
)
def test_a_grid_that_cannot_be_believed_is_refused(affine: Array, words: str) -> None:
    assert words in refused(affine=affine)


def test_a_grid_that_is_a_little_off_right_angles_passes() -> None:
    assert check(affine=changed(0, 2, 0.05)) == []


@pytest.mark.parametrize(("shape", "pixels"), [((32, 16, 7), "7 x 32"), ((7, 16, 31), "31 x 7")])
def test_too_few_pixels_in_the_plane_that_is_segmented_are_refused(shape: tuple[int, ...], pixels: str) -> None:
    assert f"{pixels} pixels" in refused(ct(shape))


def test_a_single_slice_in_the_plane_that_is_segmented_is_only_doubted() -> None:
    (doubt,) = check(ct((32, 3, 31))[:, 1:2])
    assert "field of view of 6 x 146 x 150 mm" in doubt


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (np.clip(ct() / 4 + 60, 0, 255), "8-bit"),
        ((ct() > 0).astype(np.uint8), "normalized, not HU"),
        (ct() + 1024, "CT plus about 1000"),
        (with_padding(ct() + 1024, -2000), "CT plus about 1000"),
        (ct() - 1024, "added twice"),
        (ct() / 2000 + 0.5, "normalized, not HU"),
        (np.maximum(ct(), -49), "smallest value is -49"),
    ],
)
def test_values_that_are_not_hu_are_doubted(volume: Array, words: str) -> None:
    (doubt,) = check(volume)
    assert words in doubt


def test_a_scan_in_hu_is_not_doubted_for_its_padding_or_for_metal() -> None:
    metal = ct()
    metal[12:14, 6:8, 12:14] = 20000
    for volume in (with_padding(ct(), -3024), with_padding(ct(), -2000), metal):
        assert check(volume) == []


def test_a_scan_in_hu_is_doubted_where_the_network_was_trained_on_other_units() -> None:
    target = replace(FINGERPRINT.target, intensity={"mode": "window", "lower": 0.0, "upper": 255.0})
    (doubt,) = check(fingerprint=make_fingerprint(target=target))
    assert "trained on values of 0 to 255, which are not HU" in doubt
    assert check(np.clip(ct() / 4 + 60, 0, 255), fingerprint=make_fingerprint(target=target)) == []


def test_a_ct_is_doubted_where_the_network_was_trained_on_mr() -> None:
    (doubt,) = check(fingerprint=make_fingerprint(target=FINGERPRINT.source))
    assert "it is CT in HU, and the network was trained on MR" in doubt


def test_values_of_fat_and_soft_tissue_alone_are_not_doubted() -> None:
    assert check(np.maximum(ct(), -60)) == []


def test_units_are_not_asked_about_where_each_volume_sets_its_own_window() -> None:
    fingerprint = make_fingerprint(target=FINGERPRINT.source)
    assert check(ct() + 1024, fingerprint=fingerprint) == []


def test_far_coarser_pixels_than_the_trainings_are_doubted() -> None:
    spacing = (14.2, 6.2, 14.2)
    (doubt,) = check(ct((11, 16, 11)), diagonal_affine(spacing))
    assert "pixels of 14 mm are far coarser than the training's 4.7 mm" in doubt


@pytest.mark.parametrize("factor", [0.1, 4.0])
def test_a_field_of_view_unlike_the_trainings_is_doubted(factor: float) -> None:
    shape = (32, 16, 31)
    doubts = check(ct(shape), diagonal_affine([step * factor for step in SPACING]))
    assert any("field of view" in doubt for doubt in doubts)


def test_several_doubts_are_all_told() -> None:
    assert len(check(ct((11, 3, 11)) + 1024, diagonal_affine((14.2, 6.2, 14.2)))) == 3


# --- Files ------------------------------------------------------------------------------------------------------------


def look(build: Build, path: Path) -> list[str]:
    build(path)
    return check_file(path, FINGERPRINT)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_files_of_every_usual_type_pass(kind: type, ending: str, tmp_path: Path) -> None:
    assert look(nifti(ct().astype(kind)), tmp_path / f"scan{ending}") == []


def test_further_dimensions_of_length_one_pass(tmp_path: Path) -> None:
    assert look(nifti(ct()[..., None]), tmp_path / "scan.nii.gz") == []
    assert look(nifti(ct()[..., None, None]), tmp_path / "scan.nii.gz") == []


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read as NIfTI"),
        (lambda path: path.write_text("no image", encoding="utf-8"), "cannot be read as NIfTI"),
        (lambda path: None, "neither a file nor a folder"),
        (Path.mkdir, "neither a file nor a folder"),
        (nifti(ct().astype(np.complex64)), "complex"),
        (nifti(np.stack([ct()] * 2, axis=-1)[..., None, :]), "5 dimensions"),
        (nifti(np.stack([ct()] * 2, axis=-1)), "2 channels"),
        (nifti(ct()[0]), "2 dimensions"),
        (header(dim=[3, 32, 0, 31, 1, 1, 1, 1]), "so none"),
        (header(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), "too short to hold"),
        (header(sform_code=0, qform_code=1, pixdim=[1, 0, 1, 1, 0, 0, 0, 0]), "no voxel size"),
        (header(sform_code=0, qform_code=1, pixdim=[1, np.nan, 1, 1, 0, 0, 0, 0]), "no voxel size"),
    ],
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_file_that_cannot_be_segmented_is_refused_by_its_header(
    ending: str, build: Callable[[Path], Any], words: str, tmp_path: Path
) -> None:
    assert words in refusal(lambda: look(build, tmp_path / f"scan{ending}"))


def test_a_plain_file_that_lacks_one_byte_is_refused(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "scan.nii", ct(), AFFINE)
    path.write_bytes(path.read_bytes()[:-353])  # header and padding take 352
    assert "cut short" in refusal(lambda: check_file(path, FINGERPRINT))


def test_a_compressed_file_of_nothing_but_air_passes(tmp_path: Path) -> None:
    assert look(nifti(np.full((256, 256, 64), -1000, np.int16), AFFINE), tmp_path / "air.nii.gz") == []


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (header(sform_code=0, qform_code=0), "neither sform nor qform"),
        (header(sform_code=0, qform_code=1, pixdim=[1, -4.7, 6.2, 4.7, 0, 0, 0, 0]), "negative voxel sizes"),
        (header(pixdim=[1, 4.5, 6.2, 4.7, 0, 0, 0, 0]), "disagree"),
        (header(qform_code=1, quatern_d=1), "sform and its qform place it differently"),
    ],
)
def test_a_header_that_leaves_the_place_in_doubt_is_told(build: Build, words: str, tmp_path: Path) -> None:
    (doubt,) = look(build, tmp_path / "scan.nii.gz")
    assert words in doubt


@pytest.mark.parametrize(
    "build", [header(pixdim=[1, 4.71, 6.2, 4.7, 0, 0, 0, 0]), header(pixdim=[-1, 4.7, 6.2, 4.7, 0, 0, 0, 0])]
)
def test_rounding_and_a_turned_qform_are_not_told(build: Build, tmp_path: Path) -> None:
    assert look(build, tmp_path / "scan.nii.gz") == []
