"""DICOM series: which geometry is refused and how, and that what is read is exactly the series that was meant."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import pytest
import torch
from builders import Array, edit_dicom, refusal, write_dicom_series
from monai.transforms import LoadImage
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    RTStructureSetStorage,
)
from sifa.inference.find_scans import find_scans
from sifa.io.dicom_geometry import check_loaded, read_series, replace_padding_with_air, staged_series
from sifa.io.dicom_headers import in_slice_order, read_headers, read_slices, skip_reason
from sifa.io.dicom_reader import SeriesReader
from sifa.io.dicom_slice import HEADER_TAGS

SPACING = (0.7, 0.8, 2.5)
Change = Callable[[Dataset, int], Any]


def noise(shape: tuple[int, int, int] = (9, 7, 6), seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def series(folder: Path, change: Change = lambda dicom, index: None, volume: Array | None = None) -> list[Path]:
    """Writes a series, changes the header of each slice and returns the files."""
    files = sorted(write_dicom_series(folder, noise() if volume is None else volume, SPACING).iterdir())
    edit_dicom(files, change)
    return files


def refused(files: Sequence[Path]) -> str:
    message = refusal(lambda: read_series(files))
    assert str(files[0].parent) in message
    return message


def found(folder: Path) -> list[Path]:
    """Returns the files of the only series of a folder, by their names."""
    (item,) = find_scans(folder, folder.parent / "masks")
    return sorted(map(Path, item["files"]))


def shorten(dicom: Dataset) -> None:
    dicom.Rows, dicom.PixelData = 6, dicom.PixelData[: 6 * 9 * 2]


def place(*heights: float) -> Change:
    def change(dicom: Dataset, index: int) -> None:
        dicom.ImagePositionPatient = [0, 0, heights[index]]

    return change


def load(folder: Path | str) -> Any:
    """Returns a volume as MONAI's stock reader, ITKReader, reads it."""
    return LoadImage(ensure_channel_first=True)(folder)


def read(folder: Path | str) -> Any:
    """Returns a volume as the bundle reads it."""
    return LoadImage(ensure_channel_first=True, reader=SeriesReader(), dtype=None)(folder)


def staged(files: Sequence[Path | str]) -> Any:
    with staged_series(files) as folder:
        return read(folder)


def assert_same(image: Any, wanted: Any) -> None:
    assert image.shape == wanted.shape
    assert torch.equal(image.as_tensor().float(), wanted.as_tensor())
    assert torch.allclose(image.affine, wanted.affine, rtol=0, atol=1e-9)


# --- Geometry ---------------------------------------------------------------------------------------------------------


def test_a_regular_series_passes_in_slice_order(tmp_path: Path) -> None:
    files = series(tmp_path / "ct")

    result = read_series(files[::-1])

    assert result.files == files
    assert result.warnings == []
    assert result.shape == (9, 7, 6)
    assert result.spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1], [0.6, 0.8, 0, -0.8, 0.6, 0]])
def test_any_orientation_passes_when_slices_lie_straight_above_each_other(
    orientation: list[float], tmp_path: Path
) -> None:
    normal = np.cross(orientation[:3], orientation[3:])

    def turn(dicom: Dataset, index: int) -> None:
        dicom.ImageOrientationPatient = orientation
        dicom.ImagePositionPatient = [*(normal * 2.5 * index + 7)]

    files = series(tmp_path / "ct", turn)

    result = read_series(files)

    assert result.files == files
    assert_same(staged(result.files), load(tmp_path / "ct"))
    check_loaded(tmp_path / "ct", result, load(tmp_path / "ct").shape[1:], load(tmp_path / "ct").affine)


def test_a_missing_slice_is_refused(tmp_path: Path) -> None:
    message = refused([file for index, file in enumerate(series(tmp_path / "ct")) if index != 2])

    assert "slices are missing" in message
    assert "5.00 mm where 2.50 mm" in message


@pytest.mark.parametrize(
    ("heights", "words"),
    [
        ((0, 1, 2, 3, 4, 5.6), "slices are missing"),
        ((0, 1, 2, 3, 4, 4.4), "0.40 mm apart where 1.00 mm"),
        ((0, 1, 2, 2, 3, 4), "at the same place"),
        ((0, 0, 1, 1, 2, 2), "at the same place"),
        ((3, 3, 3, 3, 3, 3), "at the same place"),
    ],
)
def test_gaps_that_no_grid_has_are_refused(heights: tuple[float, ...], words: str, tmp_path: Path) -> None:
    assert words in refused(series(tmp_path / "ct", place(*heights)))


@pytest.mark.parametrize(
    ("heights", "warns"),
    [
        ((0, 1, 2, 3, 4, 5.09), False),
        ((0, 1, 2, 3, 4, 5.12), True),
        ((0, 1, 2, 3, 4, 4.6), True),
        ((0, 0.3, 0.6, 0.9, 1.2, 1.59), False),
        ((0, 5, 10, 15, 20, 25.4), False),
    ],
)
def test_slightly_uneven_gaps_give_a_warning_at_most(heights: tuple[float, ...], warns: bool, tmp_path: Path) -> None:
    warnings = read_series(series(tmp_path / "ct", place(*heights))).warnings

    assert bool(warnings) == warns
    assert all(str(tmp_path / "ct") in warning and "unevenly" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda dicom, index: shorten(dicom) if index == 5 else None, "numbers of rows or columns"),
        (lambda dicom, index: setattr(dicom, "PixelSpacing", [0.8, 0.7 + 0.01 * (index // 5)]), "pixel spacings"),
        (
            lambda dicom, index: setattr(dicom, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0.01 * (index // 5)]),
            "orientations",
        ),
        (lambda dicom, index: setattr(dicom, "ImageOrientationPatient", [0, 0, 0, 0, 0, 0]), "right-angled"),
        (lambda dicom, index: setattr(dicom, "StudyInstanceUID", f"1.2.{index // 5}"), "values of StudyInstanceUID"),
        (lambda dicom, index: setattr(dicom, "PatientPosition", "HFS" if index % 2 else "FFS"), "of PatientPosition"),
        (lambda dicom, index: setattr(dicom, "ImageOrientationPatient", None), "its position is unknown"),
        (lambda dicom, index: dicom.pop("ImagePositionPatient"), "its position is unknown"),
        (lambda dicom, index: setattr(dicom, "PixelSpacing", [0, 0]), "its position is unknown"),
        (lambda dicom, index: setattr(dicom, "ImagePositionPatient", [3 * (index == 2), 0, index]), "shifted sideways"),
    ],
)
def test_slices_that_make_no_grid_are_refused(change: Change, words: str, tmp_path: Path) -> None:
    assert words in refused(series(tmp_path / "ct", change))


def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path) -> None:
    def tilt(degrees: float) -> Change:
        def change(dicom: Dataset, index: int) -> None:
            step = 2.5 * index
            dicom.ImagePositionPatient = [
                0,
                round(step * np.sin(np.radians(degrees)), 4),
                round(step * np.cos(np.radians(degrees)), 4),
            ]

        return change

    assert "tilted by 12.5 degrees" in refused(series(tmp_path / "tilted", tilt(12.5)))
    assert "resample" in refused(series(tmp_path / "back", tilt(-0.6)))
    assert read_series(series(tmp_path / "nearly", tilt(0.4))).warnings == []


def test_a_slice_that_is_there_twice_is_used_once(tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    copy = tmp_path / "ct" / "zzz.dcm"
    copy.write_bytes(files[3].read_bytes())

    result = read_series([*files, copy])

    assert result.files == files
    assert len(result.warnings) == 1
    assert "1 of 7 slices repeat others" in result.warnings[0]


def test_different_slices_with_one_instance_uid_are_refused(tmp_path: Path) -> None:
    assert "the same SOP instance UID" in refused(
        series(tmp_path / "ct", lambda dicom, index: setattr(dicom, "SOPInstanceUID", "1.2.3"))
    )


def test_a_single_slice_is_refused(tmp_path: Path) -> None:
    assert "a single slice" in refused(series(tmp_path / "ct")[:1])


def test_no_message_or_header_says_anything_of_the_patient(tmp_path: Path) -> None:
    def name(dicom: Dataset, index: int) -> None:
        dicom.PatientName, dicom.PatientID, dicom.StudyDate = "Doe^Jane", "JD4711", "20200102"
        dicom.ImagePositionPatient = [0, 0, index**2]

    files = series(tmp_path / "ct", name)

    assert not re.search("Doe|JD4711|20200102", refused(files) + repr(read_headers(files)))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    files[2].write_bytes(files[2].read_bytes()[:150])

    assert str(files[2]) in refusal(lambda: read_headers(files))


def test_every_cut_of_a_header_is_survived_and_noticed(tmp_path: Path) -> None:
    file = series(tmp_path / "ct")[0]
    content = file.read_bytes()
    for size in [*range(0, len(content), 7), len(content) - 1]:
        file.write_bytes(content[:size])
        headers = read_slices(file)
        assert len(headers) == (size >= 132)
        assert all(header.fault for header in headers)
        file.write_bytes(content[132:size])
        assert all(header.fault for header in read_slices(file))
    file.write_bytes(content)
    assert [header.fault for header in read_slices(file)] == [""]


# --- Pixels that are not all there ------------------------------------------------------------------------------------


def compressed(syntax: str) -> Change:
    return lambda dicom, index: dicom.compress(syntax, generate_instance_uid=False)


@pytest.mark.parametrize("which", [2, 5], ids=["between", "last"])
@pytest.mark.parametrize("change", [lambda dicom, index: None, compressed(RLELossless), compressed(JPEGLSLossless)])
def test_a_slice_whose_pixels_are_cut_short_makes_its_series_fail_by_its_name(
    change: Change, which: int, tmp_path: Path
) -> None:
    files = series(tmp_path / "ct", change, noise((32, 24, 6)))
    content = files[which].read_bytes()
    begin = content.index(b"\xe0\x7f\x10\x00")
    for size in (begin, begin + 6, begin + 12, begin + 25, (begin + len(content)) // 2, len(content) - 10):
        files[which].write_bytes(content[:size])

        assert found(tmp_path / "ct") == files
        message = refusal(lambda: read_series(files))
        assert message.startswith(f"{files[which]}: its voxels cannot be read, it is cut short")


def test_a_compressed_slice_that_only_lacks_its_end_mark_is_whole(tmp_path: Path) -> None:
    files = series(tmp_path / "ct", compressed(RLELossless), noise((32, 24, 6)))
    wanted = load(tmp_path / "ct")
    files[5].write_bytes(files[5].read_bytes()[:-8])

    assert_same(staged(read_series(files).files), wanted)


def test_a_compressed_slice_whose_end_is_zeros_is_damaged(tmp_path: Path) -> None:
    files = series(tmp_path / "ct", compressed(RLELossless), noise((32, 24, 6)))
    content = files[5].read_bytes()
    files[5].write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))

    assert "cut short or damaged" in refusal(lambda: read_series(files))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_whole_and_cut_pixels_are_told_apart_in_every_uncompressed_syntax(syntax: UID, tmp_path: Path) -> None:
    def store(dicom: Dataset, index: int) -> None:
        if syntax == ExplicitVRBigEndian:
            dicom.PixelData = dicom.pixel_array.astype(">u2").tobytes()

    file = series(tmp_path / "ct", store)[0]
    dicom = pydicom.dcmread(file)
    dicom.file_meta.TransferSyntaxUID = syntax
    stored = Dataset(dicom)
    stored.file_meta, stored.preamble = dicom.file_meta, bytes(128)
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(file, stored, implicit_vr=implicit, little_endian=little)

    assert [header.fault for header in read_slices(file)] == [""]
    file.write_bytes(file.read_bytes()[:-2])
    (header,) = read_slices(file)
    assert "cut short" in header.fault


def test_a_slice_of_another_kind_needs_no_pixels(tmp_path: Path) -> None:
    def strip(dicom: Dataset, index: int) -> None:
        dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
        del dicom.PixelData

    (header,) = read_slices(series(tmp_path / "ct", strip)[0])

    assert header.fault == ""
    assert "RT Structure Set" in skip_reason(header)


# --- Padding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_padding_becomes_air_and_ceilings_stay(kind: Callable[[list[float]], Any]) -> None:
    image = kind([-3024.0, -2000.0, -1500.0, -1499.0, -1024.0, 0.0, 3071.0, 20000.0])

    assert replace_padding_with_air(image).tolist() == [-1024, -1024, -1024, -1499, -1024, 0, 3071, 20000]
    assert replace_padding_with_air(image, 20000.0).tolist() == [-1024, -1024, -1024, -1499, -1024, 0, 3071, -1024]


@pytest.mark.parametrize("padding", [0.0, -899.0, 40.0, 3071.0])
def test_a_declared_padding_that_could_be_tissue_is_not_believed(padding: float) -> None:
    assert replace_padding_with_air(np.array([padding, -1024.0]), padding).tolist() == [padding, -1024]


@pytest.mark.parametrize(("signed", "stored", "hu"), [(0, 0, -1024), (1, -2000, -3024), (1, 63536, -3024)])
def test_the_padding_of_a_header_is_given_in_hu(signed: int, stored: int, hu: float, tmp_path: Path) -> None:
    def pad(dicom: Dataset, index: int) -> None:
        dicom.PixelRepresentation = signed
        dicom.add_new("PixelPaddingValue", "SS" if stored < 0 else "US", stored)

    assert read_series(series(tmp_path / "ct", pad)).padding == hu
    assert read_series(series(tmp_path / "plain")).padding is None


# --- Reading: the same as the stock reader, where that reads it right -------------------------------------------------


def test_a_series_out_of_a_mixed_folder_reads_as_from_a_folder_of_its_own(tmp_path: Path) -> None:
    clean = [series(tmp_path / "a"), series(tmp_path / "b", volume=noise((8, 8, 5), seed=1))]
    mixed = tmp_path / "scans" / "mixed"
    mixed.mkdir(parents=True)
    for number, files in enumerate(clean):
        for index, file in enumerate(files):
            (mixed / f"{index}_{number}").write_bytes(file.read_bytes())

    images = [staged(read_series(item["files"]).files) for item in find_scans(mixed, tmp_path / "masks")]

    for image, name in zip(sorted(images, key=lambda image: -image.shape[-1]), "ab", strict=True):
        assert_same(image, load(tmp_path / name))


def test_a_real_series_reads_as_from_its_folder(shared: Path, tmp_path: Path) -> None:
    (item,) = find_scans(shared / "scans" / "dicom_ct", tmp_path)
    result = read_series(item["files"])

    image, wanted = staged(result.files), load(shared / "scans" / "dicom_ct")

    assert pydicom.dcmread(item["files"][0]).file_meta.TransferSyntaxUID.name.startswith("JPEG 2000")
    assert_same(image, wanted)
    assert result.warnings == []
    check_loaded(item["image"], result, image.shape[1:], image.affine)


def test_a_staged_folder_holds_links_and_goes_away_even_after_an_error(tmp_path: Path) -> None:
    files = series(tmp_path / "ct")

    def fail() -> None:
        with staged_series(files) as folder:
            seen.append(folder)
            assert [path.name for path in sorted(folder.iterdir())] == [f"{index:06d}.dcm" for index in range(6)]
            assert all(path.is_symlink() and path.samefile(files[int(path.stem)]) for path in folder.iterdir())
            raise KeyError

    seen: list[Path] = []
    with pytest.raises(KeyError):
        fail()
    assert not seen[0].exists()
    assert all(file.is_file() for file in files)


def forbid(monkeypatch: pytest.MonkeyPatch, *links: str) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise OSError

    for name in links:
        monkeypatch.setattr(os, name, refuse)


@pytest.mark.parametrize("missing", [("symlink",), ("symlink", "link")])
def test_without_links_the_files_are_copied(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, *missing)
    files = series(tmp_path / "ct")

    with staged_series(files) as folder:
        assert not any(path.is_symlink() for path in folder.iterdir())
        assert_same(read(folder), load(tmp_path / "ct"))


@pytest.mark.parametrize("missing", [(), ("symlink", "link")])
def test_an_error_about_a_staged_file_names_the_file_that_it_stands_for(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, *missing)
    files = series(tmp_path / "ct")
    checked = read_series(files).files
    files[4].write_bytes(files[4].read_bytes()[:-20])

    assert refusal(lambda: staged(checked)).startswith(f"{files[4]}: its voxels cannot be read, it is cut short")


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("SliceThickness", ("2.5", "2.50")),
        ("SliceThickness", ("2.5", "5")),
        ("SeriesNumber", (1, 2)),
        ("SeriesDate", ("20200101", "20200102")),
        ("SequenceName", ("a", "b")),
        ("SequenceName", (None, "b")),
    ],
)
def test_a_series_that_the_stock_reader_would_split_is_read_whole(
    tag: str, values: tuple[Any, Any], tmp_path: Path
) -> None:
    def split(dicom: Dataset, index: int) -> None:
        if values[index // 4] is not None:
            setattr(dicom, tag, values[index // 4])

    files = series(tmp_path / "ct", split)

    assert load(tmp_path / "ct").shape[-1] < 6  # what the stock reader would make of it
    assert_same(read(tmp_path / "ct"), load(series(tmp_path / "whole")[0].parent))
    assert_same(staged(read_series(files).files), load(tmp_path / "whole"))


@pytest.mark.parametrize("kept", ["meta", "explicit", "implicit"])
def test_files_without_a_preamble_are_read(kept: str, tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    wanted = load(tmp_path / "ct")
    for file in files:
        if kept == "meta":
            file.write_bytes(file.read_bytes()[132:])
        else:
            bare = Dataset(pydicom.dcmread(file))
            pydicom.dcmwrite(file, bare, implicit_vr=kept == "implicit", little_endian=True)
            assert file.read_bytes()[128:132] != b"DICM"

    assert_same(staged(read_series(files).files), wanted)


def test_a_volume_unlike_its_headers_is_refused(tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    result = read_series(files)
    files[2].unlink()
    image = load(tmp_path / "ct")

    message = refusal(lambda: check_loaded(tmp_path / "ct", result, image.shape[1:], image.affine))

    assert str(tmp_path / "ct") in message
    assert "9 x 7 x 5 voxels" in message
    assert "9 x 7 x 6 voxels" in message


def compress_rle(files: Sequence[Path]) -> None:
    edit_dicom(files, compressed(RLELossless))


def compress_jpeg_lossless(files: Sequence[Path]) -> None:
    kind = itk.Image[itk.SS, 2]
    for file in files:
        reader = itk.ImageFileReader[kind].New(FileName=str(file), ImageIO=itk.GDCMImageIO.New())
        reader.Update()
        reader.GetOutput().SetMetaDataDictionary(reader.GetImageIO().GetMetaDataDictionary())
        encoder = itk.GDCMImageIO.New(KeepOriginalUID=True)
        encoder.SetCompressor("JPEG")
        writer = itk.ImageFileWriter[kind].New(Input=reader.GetOutput(), FileName=str(file), ImageIO=encoder)
        writer.UseCompressionOn()
        writer.Update()
    if pydicom.dcmread(files[0]).file_meta.TransferSyntaxUID != JPEGLosslessSV1:
        pytest.skip("this ITK has no encoder for JPEG lossless")


@pytest.mark.parametrize("compress", [compress_rle, compress_jpeg_lossless])
def test_compressed_series_read_as_uncompressed_ones(
    compress: Callable[[Sequence[Path]], None], tmp_path: Path
) -> None:
    files = series(tmp_path / "ct", volume=noise((32, 24, 4)))  # GDCM refuses RLE that is longer than what it packs
    wanted = load(tmp_path / "ct")
    compress(files)

    assert all(pydicom.dcmread(file).file_meta.TransferSyntaxUID.is_compressed for file in files)
    assert_same(staged(read_series(files).files), wanted)


def test_headers_without_a_place_are_ordered_by_name_and_kept_for_the_check_to_refuse(tmp_path: Path) -> None:
    files = series(tmp_path / "ct", lambda dicom, index: dicom.pop("ImagePositionPatient"))
    headers = read_headers(files[::-1])

    assert [header.file for header in in_slice_order(headers)] == files
    assert {skip_reason(header) for header in headers} == {""}
    assert not {"PatientName", "PatientID"} & set(HEADER_TAGS)
