"""DICOM values: HU is slope times stored value plus intercept, restated here; what cannot be HU is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import pytest
from builders import Array, edit_dicom, refusal, write_dicom_series
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from sifa.inference.find_scans import find_scans
from sifa.io.dicom_geometry import read_series
from sifa.io.dicom_reader import SeriesReader

SHAPE = (24, 32)  # rows, columns
SLOPE, INTERCEPT = 2.0, -1024.0
Change = Callable[[Dataset], Any]


def series(folder: Path, change: Change = lambda dicom: None, slices: int = 3) -> list[Path]:
    """Writes a series, changes each header and returns the files."""
    volume = np.random.default_rng(0).integers(-1000, 1000, (*SHAPE[::-1], slices)).astype(np.int16)
    files = sorted(write_dicom_series(folder, volume).iterdir())
    edit_dicom(files, lambda dicom, _: change(dicom))
    return files


def setting(**elements: Any) -> Change:
    def change(dicom: Dataset) -> None:
        for name, value in elements.items():
            setattr(dicom, name, value)

    return change


def read(folder: Path) -> Array:
    """Returns what the bundle's reader gives (slices, rows, columns)."""
    reader = SeriesReader()
    voxels, _ = reader.get_data(reader.read(folder))
    return voxels.T


def refused(folder: Path) -> str:
    """Returns the sentence with which both inference and the reader refuse a series."""
    (item,) = find_scans(folder, folder.parent / "masks")
    assert "skipped" not in item
    message = refusal(lambda: read_series(item["files"]))
    assert refusal(lambda: read(folder)) == message
    return message


# --- Values -----------------------------------------------------------------------------------------------------------


def decoded(words: Array, stored: int, signed: bool) -> Array:
    """Returns HU of words of 16 bits: the low `stored` bits are the value, in two's complement where it is signed."""
    values = words.astype(np.int64) & (2**stored - 1)
    if signed:
        values = np.where(values >= 2 ** (stored - 1), values - 2**stored, values)
    return values * SLOPE + INTERCEPT


def write_words(file: Path, words: Array, stored: int, signed: bool, photometric: str, syntax: UID) -> None:
    dicom = pydicom.dcmread(file)
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = 16, stored, stored - 1
    dicom.PixelRepresentation, dicom.PhotometricInterpretation = int(signed), photometric
    dicom.RescaleSlope, dicom.RescaleIntercept = SLOPE, INTERCEPT
    dicom.PixelData = words.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    if syntax in (RLELossless, JPEGLSLossless):
        dicom.compress(syntax, generate_instance_uid=False)
        dicom.save_as(file)
        return
    dicom.file_meta.TransferSyntaxUID = syntax
    fresh = Dataset(dicom)
    fresh.file_meta, fresh.preamble = dicom.file_meta, bytes(128)
    fresh.save_as(file, enforce_file_format=True)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("stored", "signed"), [(12, False), (12, True), (16, False), (16, True), (10, False)])
def test_hu_is_slope_times_stored_plus_intercept_whatever_the_display(
    stored: int, signed: bool, photometric: str, syntax: UID, tmp_path: Path
) -> None:
    files = series(tmp_path / "ct")
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1)) if signed else (0, 2**stored)
    words = np.random.default_rng(1).integers(low, high, (3, *SHAPE)) & 0xFFFF
    for file, plane in zip(files, words, strict=True):
        write_words(file, plane, stored, signed, photometric, syntax)

    assert np.array_equal(read(tmp_path / "ct"), decoded(words, stored, signed))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("stored", "signed"), [(12, False), (12, True), (10, True)])
def test_bits_above_the_stored_ones_do_not_count(stored: int, signed: bool, photometric: str, tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    words = np.random.default_rng(2).integers(0, 2**16, (3, *SHAPE))  # an overlay in the high bits, as of ACR-NEMA
    for file, plane in zip(files, words, strict=True):
        write_words(file, plane, stored, signed, photometric, ExplicitVRLittleEndian)

    assert np.array_equal(read(tmp_path / "ct"), decoded(words, stored, signed))


def compress_with_itk(file: Path, compressor: str) -> None:
    """Compresses a signed slice losslessly, HU being the stored values."""
    kind = itk.Image[itk.SS, 2]
    reader = itk.ImageFileReader[kind].New(FileName=str(file), ImageIO=itk.GDCMImageIO.New())
    reader.Update()
    reader.GetOutput().SetMetaDataDictionary(reader.GetImageIO().GetMetaDataDictionary())
    encoder = itk.GDCMImageIO.New(KeepOriginalUID=True)
    encoder.SetCompressor(compressor)
    writer = itk.ImageFileWriter[kind].New(Input=reader.GetOutput(), FileName=str(file), ImageIO=encoder)
    writer.UseCompressionOn()
    writer.Update()


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG"])
def test_monochrome1_in_jpeg_is_read_like_monochrome2(compressor: str, tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    wanted = read(tmp_path / "ct")
    for file in files:
        compress_with_itk(file, compressor)
        dicom = pydicom.dcmread(file)
        assert dicom.file_meta.TransferSyntaxUID.is_compressed
        dicom.PhotometricInterpretation = "MONOCHROME1"
        dicom.save_as(file)

    assert np.array_equal(read(tmp_path / "ct"), wanted)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2", None])
def test_each_slice_has_its_own_scale(photometric: str | None, tmp_path: Path) -> None:
    slopes = iter((1.0, 0.5, 3.25))

    def scale(dicom: Dataset) -> None:
        dicom.PhotometricInterpretation, dicom.RescaleSlope, dicom.RescaleIntercept = photometric, next(slopes), -7.5

    files = series(tmp_path / "ct", scale)

    stored = np.stack([np.frombuffer(pydicom.dcmread(file).PixelData, "<u2").reshape(SHAPE) for file in files])
    assert np.array_equal(read(tmp_path / "ct"), stored * np.array([1.0, 0.5, 3.25])[:, None, None] - 7.5)


def test_no_patient_data_is_copied_beside_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series(tmp_path / "ct", setting(PhotometricInterpretation="MONOCHROME1", PatientName="Doe^Jane"))
    written: list[bytes] = []
    save_as = Dataset.save_as

    def note(dicom: Dataset, file: Path, **options: Any) -> None:
        save_as(dicom, file, **options)
        written.append(file.read_bytes())

    monkeypatch.setattr(Dataset, "save_as", note)
    read(tmp_path / "ct")

    assert len(written) == 3
    assert not any(b"Doe" in content for content in written)


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["OD", "Z_EFF", "ED", "EDW", "PCT", "MGML", "z_eff"])
def test_another_quantity_than_hu_is_refused_by_its_type(kind: str, tmp_path: Path) -> None:
    files = series(tmp_path / "ct", setting(RescaleType=kind))

    assert refused(tmp_path / "ct").startswith(f"{files[0]}: its RescaleType is {kind.upper()}, not HU:")


@pytest.mark.parametrize("kind", ["HU", "HU_MOD", "US", "", None])
def test_types_that_are_or_may_be_hu_are_left_to_the_values(kind: str | None, tmp_path: Path) -> None:
    assert read_series(series(tmp_path / "ct", setting(RescaleType=kind))).warnings == []


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"RescaleSlope": "0"}, "its RescaleSlope is zero"),
        ({"RescaleSlope": "nan"}, "not finite"),
        ({"RescaleIntercept": "inf"}, "not finite"),
        ({"HighBit": 15, "BitsStored": 12}, "do not describe pixels"),
        ({"HighBit": 11}, "do not describe pixels"),
        ({"BitsStored": 17, "HighBit": 16}, "do not describe pixels"),
        ({"BitsStored": 0}, "do not describe pixels"),
        ({"PixelRepresentation": 2}, "do not describe pixels"),
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, "longer than Rows, Columns, BitsAllocated"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "it is a color image"),  # on which ITK ends the process
        ({"ModalityLUTSequence": [Dataset()]}, "a lookup table"),
    ],
)
def test_values_that_cannot_be_read_rightly_are_refused(elements: dict[str, Any], words: str, tmp_path: Path) -> None:
    files = series(tmp_path / "ct", setting(**elements))

    message = refused(tmp_path / "ct")

    assert message.startswith(f"{files[0]}: ")
    assert words in message


ELEMENTS = [
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"),
]


@pytest.mark.parametrize("keyword", ELEMENTS)
@pytest.mark.parametrize("which", [slice(None), slice(1, 2)], ids=["all", "one"])
def test_a_missing_element_is_named(which: slice, keyword: str, tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    edit_dicom(files[which], lambda dicom, _: delattr(dicom, keyword))

    assert refused(tmp_path / "ct").startswith(f"{files[which][0]}: it lacks {keyword}, so ")


NUMBERS = ["PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept"]


@pytest.mark.parametrize("keyword", NUMBERS)
@pytest.mark.parametrize("which", [slice(None), slice(1, 2)], ids=["all", "one"])
@pytest.mark.parametrize(("sign", "words"), [(b",", "is written with a decimal comma"), (b"o", "is not a number")])
def test_an_element_that_is_not_a_number_is_named_without_its_value(
    sign: bytes, words: str, which: slice, keyword: str, tmp_path: Path
) -> None:
    count = len(pydicom.dcmread(series(tmp_path / "plain")[0])[keyword].value) if "Rescale" not in keyword else 1
    files = series(tmp_path / "ct", setting(**{keyword: ["4711.5"] * count}))
    for file in files[which]:
        file.write_bytes(file.read_bytes().replace(b"4711.5", b"4711" + sign + b"5"))

    message = refused(tmp_path / "ct")

    assert message.startswith(f"{files[which][0]}: its {keyword} {words}: ")
    assert "4711" not in message.replace(str(tmp_path), "")


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_scale_that_only_some_slices_lack_is_refused(keyword: str, tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    dicom = pydicom.dcmread(files[1])
    delattr(dicom, keyword)
    dicom.save_as(files[1])

    assert refused(tmp_path / "ct").startswith(f"{files[1]}: it lacks {keyword}, which other slices of its series have")


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_several_values_where_there_is_to_be_one_are_refused(keyword: str, tmp_path: Path) -> None:
    files = series(tmp_path / "ct", setting(**{keyword: [1, 2]}))

    assert refused(tmp_path / "ct").startswith(f"{files[0]}: its {keyword} is not one number: ")


@pytest.mark.parametrize(("keyword", "value"), [("Columns", 31), ("Rows", 23), ("Columns", 16)])
def test_more_pixels_than_rows_and_columns_are_refused(keyword: str, value: int, tmp_path: Path) -> None:
    files = series(tmp_path / "ct", setting(**{keyword: value}))

    assert refused(tmp_path / "ct").startswith(f"{files[0]}: its pixel data is longer than Rows, ")


def test_padding_after_the_pixels_is_no_fault(tmp_path: Path) -> None:
    def pad(dicom: Dataset) -> None:
        dicom.PixelData += bytes(6)

    assert np.array_equal(read(series(tmp_path / "ct", pad)[0].parent), read(series(tmp_path / "plain")[0].parent))


# --- Several files of one slice ---------------------------------------------------------------------------------------


def copied(file: Path, change: Change = lambda dicom: None) -> Path:
    """Writes a slice to another file, changed."""
    dicom = pydicom.dcmread(file)
    change(dicom)
    dicom.save_as(file.with_name("z.dcm"))
    return file.with_name("z.dcm")


def brighten(dicom: Dataset) -> None:
    dicom.PixelData = dicom.PixelData[:-2] + b"\x01\x00"


def compress(dicom: Dataset) -> None:
    dicom.compress(RLELossless, generate_instance_uid=False)


def test_slices_of_one_uid_with_other_pixels_are_refused(tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    copied(files[1], brighten)

    assert "different slices carry the same SOP instance UID" in refused(tmp_path / "ct")


@pytest.mark.parametrize(
    "change",
    [lambda dicom: None, compress, setting(PatientID="other")],
    ids=["same file", "same values, compressed", "another element"],
)
def test_slices_of_one_uid_with_the_same_pixels_are_copies(change: Change, tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    wanted = read(tmp_path / "ct")
    checked = read_series([*files, copied(files[1], change)])

    assert "1 of 4 slices repeat others" in checked.warnings[0]
    assert checked.files == files
    assert np.array_equal(read(tmp_path / "ct"), wanted)
