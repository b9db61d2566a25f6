"""Multi-frame CT files: every frame at its place with its own scale, whatever their order and number of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import torch
from builders import Array, refusal, write_dicom_series, write_enhanced_ct
from monai.transforms import LoadImage
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
    generate_uid,
)
from sifa.inference.find_scans import find_scans
from sifa.io.dicom_geometry import check_loaded, read_series, staged_series
from sifa.io.dicom_headers import read_slices
from sifa.io.dicom_reader import SeriesReader

SPACING = (0.7, 0.8, 2.5)
HEIGHTS = (0.0, 2.5, 5.0, 7.5, 10.0, 12.5)


def noise(shape: tuple[int, int, int] = (9, 7, 6), seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def write(path: Path, volume: Array, heights: Sequence[float] = HEIGHTS, **options: Any) -> Path:
    return write_enhanced_ct(path, volume, SPACING, heights, **options)


def read(files: Sequence[Path | str]) -> Any:
    """Returns a series (columns, rows, slices) as the bundle reads it, after its checks."""
    checked = read_series(files)
    with staged_series(checked.files) as folder:
        image = LoadImage(reader=SeriesReader(), image_only=True, dtype=None)(folder)
    check_loaded(Path(files[0]).parent, checked, image.shape, image.affine)
    return image


def refused(*files: Path) -> str:
    return refusal(lambda: read_series(files))


def single_frames(folder: Path, volume: Array) -> Any:
    """Returns what the stock reader makes of the same volume in single-frame files."""
    return LoadImage(image_only=True)(write_dicom_series(folder, volume, SPACING))


@pytest.mark.parametrize("backwards", [False, True])
def test_frames_in_order_stay_as_they_are_and_lie_where_they_should(backwards: bool, tmp_path: Path) -> None:
    file = write(tmp_path / "ct" / "a.dcm", noise(), HEIGHTS[::-1] if backwards else HEIGHTS)

    (item,) = find_scans(tmp_path / "ct", tmp_path / "masks")
    image = read(item["files"])

    assert item == {
        "image": str(tmp_path / "ct"),
        "mask": str(tmp_path / "masks" / "ct_seg.nii.gz"),
        "files": [str(file)],
    }
    wanted = single_frames(tmp_path / "single", noise()[..., ::-1] if backwards else noise())
    assert np.array_equal(image, noise())
    for index in (0, 5):
        there = image.affine @ torch.tensor([3, 2, index, 1.0]).double()
        here = wanted.affine @ torch.tensor([3, 2, 5 - index if backwards else index, 1.0]).double()
        assert torch.allclose(there, here, rtol=0, atol=1e-6)


def test_frames_out_of_order_are_sorted_by_their_positions(tmp_path: Path) -> None:
    order = [3, 0, 5, 1, 4, 2]
    file = write(tmp_path / "a.dcm", noise()[..., order], [HEIGHTS[index] for index in order])

    image = read([file])

    wanted = single_frames(tmp_path / "single", noise())
    assert np.array_equal(image, noise())
    assert torch.allclose(image.affine, wanted.affine, rtol=0, atol=1e-6)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_every_frame_has_its_own_scale(photometric: str, syntax: str, tmp_path: Path) -> None:
    volume, slopes = noise((32, 24, 6)), (1, 1, 2, 0.5, 1, 3)
    file = write(tmp_path / "a.dcm", volume, slopes=slopes)
    dicom = pydicom.dcmread(file)
    dicom.PhotometricInterpretation = photometric
    if syntax != ExplicitVRLittleEndian:
        dicom.compress(syntax, generate_instance_uid=False)
    dicom.save_as(file)

    assert np.array_equal(read([file]), (volume + 1024.0) * slopes - 1024)


def test_one_series_may_be_spread_over_several_files(tmp_path: Path) -> None:
    write(tmp_path / "ct" / "b.dcm", noise()[..., :4], HEIGHTS[:4])
    write(tmp_path / "ct" / "a.dcm", noise()[..., 4:], HEIGHTS[4:])

    (item,) = find_scans(tmp_path / "ct", tmp_path / "masks")

    assert np.array_equal(read(item["files"]), noise())


def test_uneven_frames_give_a_warning_as_uneven_files_do(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", noise(), (*HEIGHTS[:5], 13))

    (warning,) = read_series([file]).warnings

    assert "unevenly" in warning


def test_a_copy_of_a_multi_frame_file_is_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", noise())
    copy = tmp_path / "b.dcm"
    copy.write_bytes(file.read_bytes())

    assert "6 of 12 slices repeat others" in read_series([file, copy]).warnings[0]
    assert np.array_equal(read([file, copy]), noise())


@pytest.mark.parametrize("frames", [5, 7])
def test_a_number_of_frames_that_is_not_that_of_the_places_is_refused(frames: int, tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", noise())
    dicom = pydicom.dcmread(file)
    dicom.NumberOfFrames, dicom.PixelData = frames, dicom.PixelData + bytes(2 * 9 * 7)
    dicom.save_as(file)

    assert refused(file).startswith(f"{file}: its NumberOfFrames is not the number of frames that it describes")


@pytest.mark.parametrize("sop_class", [EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage, CTImageStorage])
def test_several_frames_without_places_fail_and_are_not_skipped(sop_class: UID, tmp_path: Path) -> None:
    file = write(tmp_path / "ct" / "a.dcm", noise())
    dicom = pydicom.dcmread(file)
    dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID = sop_class
    del dicom.PerFrameFunctionalGroupsSequence
    dicom.save_as(file)

    (item,) = find_scans(tmp_path / "ct", tmp_path / "masks")

    assert "skipped" not in item
    assert "NumberOfFrames" in refused(file)


@pytest.mark.parametrize(("frames", "rows", "whole"), [(6, 7, True), (7, 7, False), (6, 8, False)])
def test_pixels_have_to_be_as_many_as_the_header_announces(frames: int, rows: int, whole: bool, tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", noise())
    dicom = pydicom.dcmread(file)
    dicom.NumberOfFrames, dicom.Rows = frames, rows
    dicom.save_as(file)

    assert {not header.fault for header in read_slices(file)} == {whole}


def test_a_multi_frame_file_without_a_preamble_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", noise())
    file.write_bytes(file.read_bytes()[132:])

    assert np.array_equal(read([file]), noise())


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 0, 5, 1, 4, 2]], ids=["sorted", "mixed"])
@pytest.mark.parametrize("slopes", [(1,) * 6, (1, 1, 2, 0.5, 1, 3)], ids=["one scale", "scales"])
def test_a_legacy_converted_file_reads_as_the_series_that_it_was_made_of(
    slopes: Sequence[float], order: list[int], tmp_path: Path
) -> None:
    datasets = []
    for slope, file in zip(slopes, sorted(write_dicom_series(tmp_path, noise(), SPACING).iterdir()), strict=True):
        dicom = pydicom.dcmread(file)
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
            setattr(dicom, keyword, "")
        dicom.AccessionNumber = dicom.ReferringPhysicianName = dicom.Manufacturer = ""
        dicom.ImageType, dicom.AcquisitionNumber, dicom.RescaleSlope = ["ORIGINAL", "PRIMARY", "AXIAL"], 1, slope
        datasets.append(dicom)
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(datasets, generate_uid(), 1, generate_uid(), 1)
    frames = list(converted.PerFrameFunctionalGroupsSequence)
    heights = [frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in frames]
    numbers = [int(np.argsort(heights)[index]) for index in order]
    pixels = np.frombuffer(converted.PixelData, np.uint16).reshape(6, 7, 9)
    converted["PerFrameFunctionalGroupsSequence"].value = pydicom.Sequence([frames[number] for number in numbers])
    converted.PixelData = pixels[numbers].tobytes()
    (tmp_path / "legacy").mkdir()
    converted.save_as(tmp_path / "legacy" / "a.dcm")

    (item,) = find_scans(tmp_path / "legacy", tmp_path / "masks")
    image = read(item["files"])

    assert "skipped" not in item
    assert converted.SOPClassUID == LegacyConvertedEnhancedCTImageStorage
    assert np.array_equal(image, (noise() + 1024.0) * slopes - 1024)
    assert torch.allclose(image.affine, single_frames(tmp_path / "wanted", noise()).affine, rtol=0, atol=1e-6)


def test_enhanced_files_of_one_frame_each_are_read_as_slices(tmp_path: Path) -> None:
    slopes = (1, 2, 1, 0.5, 1, 3)
    for index, slope in enumerate(slopes):
        write(tmp_path / f"{5 - index}.dcm", noise()[..., index : index + 1], HEIGHTS[index:], slopes=[slope])

    image = read(sorted(tmp_path.iterdir()))

    assert np.array_equal(image, (noise() + 1024.0) * slopes - 1024)
    assert torch.allclose(image.affine, single_frames(tmp_path / "single", noise()).affine, rtol=0, atol=1e-6)
