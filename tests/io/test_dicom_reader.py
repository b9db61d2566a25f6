"""The DICOM reader: values, place and memory of a series, and which folders it refuses or leaves to others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from builders import Array, edit_dicom, refusal, write_dicom_series
from conftest import BUNDLE
from monai.data import ITKReader
from monai.transforms import LoadImage
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, MRImageStorage, RLELossless, generate_uid
from sifa.inference.content_hash import content_hash
from sifa.io.dicom_reader import SLICES, SeriesReader
from sifa.io.scan_reader import ScanReader

SPACING = (0.7, 0.8, 2.5)
Change = Callable[[Dataset], Any]


@pytest.fixture
def volume() -> Array:
    """More slices than are read at once."""
    return np.random.default_rng(0).integers(-1000, 1500, (9, 7, SLICES + 5)).astype(np.int16)


@pytest.fixture
def folder(volume: Array, tmp_path: Path) -> Path:
    return write_dicom_series(tmp_path / "ct", volume, SPACING)


def changed(folder: Path, change: Change, *numbers: int) -> Path:
    """Changes slices of a series, all unless told which."""
    files = sorted(folder.iterdir())
    edit_dicom([files[number] for number in numbers] or files, lambda dicom, _: change(dicom))
    return folder


def setting(**elements: Any) -> Change:
    def change(dicom: Dataset) -> None:
        for name, value in elements.items():
            setattr(dicom, name, value)
        dicom.file_meta.MediaStorageSOPClassUID = dicom.SOPClassUID

    return change


def load(folder: Path) -> Any:
    """Returns what MONAI's transform gives with the readers of the bundle's config."""
    return LoadImage(reader=[SeriesReader(), ScanReader()], image_only=True, dtype=None)(folder)


def refused(folder: Path) -> str:
    reader = SeriesReader()
    headers = reader.read(folder)  # what is raised here would have other readers asked
    return refusal(lambda: reader.get_data(headers))


# --- Values and place -------------------------------------------------------------------------------------------------


def test_whole_numbers_of_16_bits_stay_such(folder: Path, volume: Array) -> None:
    image = load(folder)

    assert image.numpy().dtype == np.int16
    assert image.numpy().flags.c_contiguous
    assert np.array_equal(image, volume)


@pytest.mark.parametrize(
    ("numbers", "slope", "intercept", "dtype"),
    [
        ((), 0.5, 0.0, np.float32),
        ((), 2.0, -1024.0, np.int16),
        ((), 1.0, 40000.0, np.float32),
        ((0,), 0.5, -1024.0, np.float32),
        ((SLICES + 2,), 0.5, -1024.0, np.float32),  # known only after a slab of whole numbers
        ((3,), 1.0, -1000.5, np.float32),
    ],
)
def test_every_slice_has_its_own_scale_and_the_volume_the_smallest_type_that_holds_all(
    numbers: tuple[int, ...], slope: float, intercept: float, dtype: type, folder: Path, volume: Array
) -> None:
    changed(folder, setting(RescaleSlope=slope, RescaleIntercept=intercept), *numbers)
    expected = volume.astype(np.float32)
    for number in numbers or range(volume.shape[2]):
        expected[:, :, number] = (expected[:, :, number] + 1024) * slope + intercept

    image = load(folder)

    assert image.numpy().dtype == dtype
    assert image.numpy().flags.c_contiguous
    assert np.array_equal(image, expected)


@pytest.mark.parametrize(
    "orientation",
    [
        [1, 0, 0, 0, 1, 0],
        [-1, 0, 0, 0, -1, 0],
        [0, 1, 0, 0, 0, -1],
        [0.6, 0.8, 0, -0.8, 0.6, 0],
        [0.9999, 0.0141, 0, -0.0141, 0.9999, 0.001],  # right-angled and of length 1 up to rounding
    ],
)
@pytest.mark.parametrize("step", [2.5, -2.5])
def test_affine_and_order_are_those_of_the_stock_reader(
    orientation: list[float], step: float, folder: Path, volume: Array
) -> None:
    normal = np.cross(orientation[:3], orientation[3:])

    def place(dicom: Dataset) -> None:
        dicom.ImageOrientationPatient = orientation
        dicom.ImagePositionPatient = [round(x, 3) for x in normal * step * dicom.InstanceNumber + [-200, -180.5, 1000]]

    image = load(changed(folder, place))
    stock = LoadImage(reader=ITKReader(), image_only=True)(folder)

    assert np.allclose(image.affine, stock.affine, rtol=0, atol=1e-5)
    assert np.array_equal(image, stock)
    assert np.array_equal(image.meta["original_affine"], image.affine)
    assert image.meta["spatial_shape"].tolist() == list(volume.shape)


def test_no_text_of_a_header_reaches_the_metadata(folder: Path) -> None:
    meta = load(changed(folder, setting(PatientName="Doe^Jane", StudyDate="20200102"))).meta

    assert set(meta) == {
        *("affine", "original_affine", "spatial_shape", "space", "original_channel_dim"),
        "filename_or_obj",  # from LoadImage
    }


# --- Which folders ----------------------------------------------------------------------------------------------------


def test_what_is_no_folder_of_dicom_is_left_to_other_readers(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("none", encoding="utf-8")

    for other, words in (
        (tmp_path / "text", "without DICOM"),
        (tmp_path / "absent", "not a folder"),
        (folder / "slice_000.dcm", "not a folder"),
        ([folder, folder], "not a folder"),
    ):
        with pytest.raises(ValueError, match=words):
            SeriesReader().read(other)


def test_other_files_of_the_folder_are_passed_over(folder: Path, volume: Array) -> None:
    dicom = pydicom.dcmread(folder / "slice_000.dcm")
    setting(SOPInstanceUID=generate_uid(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], Rows=1)(dicom)
    dicom.save_as(folder / "a.dcm")
    (folder / "._slice_001.dcm").write_bytes(b"\x02\x00 not DICOM")
    (folder / "notes.txt").write_text("none", encoding="utf-8")
    (folder / "deeper").mkdir()

    assert np.array_equal(load(folder), volume)


def test_two_series_are_refused(folder: Path) -> None:
    assert "it holds 2 CT series" in refused(changed(folder, setting(SeriesInstanceUID="1.2"), 3, 4))


def test_what_is_no_ct_is_refused(folder: Path) -> None:
    assert "modality MR" in refused(changed(folder, setting(SOPClassUID=MRImageStorage, Modality="MR")))


def test_a_series_that_makes_no_volume_is_refused(folder: Path) -> None:
    (folder / "slice_007.dcm").unlink()

    assert "slices are missing" in refused(folder)


# --- Damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 400, -20])
def test_a_file_that_is_cut_short_is_named(size: int, folder: Path) -> None:
    file = folder / "slice_007.dcm"
    file.write_bytes(file.read_bytes()[:size])

    assert ("slices are missing" if size == 0 else str(file)) in refused(folder)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_slice_that_cannot_be_decoded_is_named(syntax: UID, folder: Path) -> None:
    def garble(dicom: Dataset) -> None:
        dicom.file_meta.TransferSyntaxUID = syntax
        dicom.PixelData = encapsulate([b"\xff\x4f\xff\x51 and no more"])
        dicom["PixelData"].is_undefined_length = True

    message = refused(changed(folder, garble, 7))

    assert message.startswith(f"{folder / 'slice_007.dcm'}: its pixels cannot be decoded: it is damaged")


def test_colors_are_refused(folder: Path) -> None:
    def color(dicom: Dataset) -> None:
        dicom.SamplesPerPixel, dicom.PhotometricInterpretation, dicom.PlanarConfiguration = 3, "RGB", 0
        dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = 8, 8, 7
        dicom.PixelData = bytes(9 * 7 * 3 + 1)

    message = refused(changed(folder, color, 7))

    assert message.startswith(f"{folder / 'slice_007.dcm'}: it is a color image")


def test_doubts_about_files_beside_a_series_make_its_mask_out_of_date(folder: Path) -> None:
    item = {"image": str(folder), "files": list(map(str, folder.iterdir()))}
    doubtful = {**item, "warnings": ["a.dcm beside it cannot be read as DICOM"]}

    assert content_hash(doubtful) != content_hash(item)


# --- Memory -----------------------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from monai.transforms import LoadImaged
from sifa.io.dicom_geometry import replace_padding_with_air
from sifa.io.dicom_reader import SeriesReader
load = LoadImaged("image", reader=SeriesReader(), dtype=None, ensure_channel_first=True)
replace_padding_with_air(load({"image": sys.argv[2]})["image"], -2000.5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("slope", "voxel"), [(1.0, 2), (0.5, 4)], ids=["int16", "float32"])
def test_memory_grows_by_the_scan_and_nothing_else(slope: float, voxel: int, tmp_path: Path) -> None:
    def peak(slices: int) -> int:
        image = np.broadcast_to(np.arange(256, dtype=np.int16), (256, 256))[..., None]
        folder = write_dicom_series(tmp_path / str(slices), np.repeat(image, slices, axis=2))
        changed(folder, setting(RescaleSlope=slope), slices - 1)  # the last one tells which type holds all
        command = [sys.executable, "-c", PEAK, str(BUNDLE), str(folder)]
        return 1024 * int(subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout)

    longer = 500
    growth = peak(50 + longer) - peak(50)
    assert growth < 1.2 * longer * 256 * 256 * voxel  # bytes


# --- MR ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "rescale_type"), [(1.0, ""), (2.5, "normalized")])
def test_mr_is_read_where_it_is_wanted_with_its_values_and_place(
    slope: float, rescale_type: str, folder: Path, volume: Array
) -> None:
    ct = load(folder)
    changed(folder, setting(SOPClassUID=MRImageStorage, Modality="MR", RescaleSlope=slope, RescaleType=rescale_type))

    image = LoadImage(reader=[SeriesReader(("CT", "MR")), ScanReader()], image_only=True, dtype=None)(folder)

    assert np.allclose(image, (volume.astype(np.float32) + 1024) * slope - 1024)
    assert np.allclose(image.affine, ct.affine)
    assert "MR, not CT" in refused(folder)


def test_a_series_of_ct_and_one_of_mr_in_one_folder_are_refused(folder: Path, volume: Array, tmp_path: Path) -> None:
    other = write_dicom_series(tmp_path / "mr", volume, SPACING)
    changed(other, setting(SOPClassUID=MRImageStorage, Modality="MR"))
    for file in other.iterdir():
        file.rename(folder / f"mr_{file.name}")
    reader = SeriesReader(("CT", "MR"))
    headers = reader.read(folder)

    assert np.array_equal(load(folder), volume)  # MR is passed over
    assert "it holds 2 CT or MR series" in refusal(lambda: reader.get_data(headers))
