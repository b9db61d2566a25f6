"""Builds a folder of scans as no one would wish it: what is broken, odd or no scan at all, between good ones."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pydicom
from builders import Array, diagonal_affine, edit_dicom, write_dicom_series, write_enhanced_ct, write_nifti
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)

SPACING = (4.7, 6.2, 4.7)  # mm; the field of view is that of the generated CT which the tiny model was trained on
SHAPE = (32, 16, 31)
DICOM_SPACING = (4.7, 4.7, 6.2)
DICOM_SHAPE = (32, 32, 16)
UID_ROOT = "1.2.826.0.1.3680043.8.498."
DIRECTORY_STORAGE = UID("1.2.840.10008.1.3.10")  # of a DICOMDIR

Build = Callable[[Path], Any]
Edit = Callable[[pydicom.Dataset, int], Any]


class Case(NamedTuple):
    """What lies at a path below the folder, and what the manifest has to say of it."""

    path: str
    status: str  # ok, warning, failed, skipped, or absent: the manifest does not list it
    words: str  # in the message; nothing else may be in the message of a good scan
    build: Build
    listed: str | None = None  # name in the manifest, where it is not the path
    lost: int = 0  # slices of a series that are not known to be its own

    @property
    def name(self) -> str:
        """Returns what the manifest calls it."""
        return self.listed or self.path


# --- NIfTI ------------------------------------------------------------------------------------------------------------


def ct(shape: Sequence[int] = SHAPE) -> Array:
    """Returns a CT in HU: soft tissue with noise, a bright ball in the middle, air around."""
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    radius = np.sqrt((places**2).sum(axis=0))
    noise = np.random.default_rng(0).normal(0, 15, tuple(shape))
    volume = np.where(radius < 1.0, 50.0, -1000.0) + np.where(radius < 0.4, 250.0, 0.0)
    return np.maximum(volume + noise, -1024).astype(np.int16)


def nifti(volume: Array | None = None, affine: Array | None = None) -> Build:
    """Writes a volume; the usual one on the usual grid unless told."""
    return lambda path: write_nifti(
        path, ct() if volume is None else volume, diagonal_affine(SPACING) if affine is None else affine
    )


def content(path: Path) -> bytes:
    """Writes the usual scan to `path` and returns the bytes of the file."""
    return nifti()(path).read_bytes()


def cut(size: int) -> Build:
    """Writes the beginning of the usual scan."""
    return lambda path: path.write_bytes(content(path)[:size])


def raw(data: bytes) -> Build:
    return lambda path: path.write_bytes(data)


def header(volume: Array | None = None, **fields: Any) -> Build:
    """Writes a volume, else the usual one, with fields of its header overwritten, however wrong that is."""

    def build(path: Path) -> None:
        data = nib.Nifti1Image(ct() if volume is None else volume, diagonal_affine(SPACING)).to_bytes()
        changed = np.frombuffer(data[:348], dtype=nib.nifti1.header_dtype).copy()
        for name, value in fields.items():
            changed[name] = value
        data = changed.tobytes() + data[348:]
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)

    return build


def plain_bytes(path: Path) -> None:
    path.write_bytes(nib.Nifti1Image(ct(), diagonal_affine(SPACING)).to_bytes())


def gzip_bytes(path: Path) -> None:
    path.write_bytes(gzip.compress(nib.Nifti1Image(ct(), diagonal_affine(SPACING)).to_bytes()))


def png(path: Path) -> None:
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(path, format="PNG")


def big_endian(path: Path) -> None:
    nib.save(nib.Nifti1Image(ct().astype(">i2"), diagonal_affine(SPACING), nib.Nifti1Header(endianness=">")), path)


def nifti_2(path: Path) -> None:
    nib.save(nib.Nifti2Image(ct(), diagonal_affine(SPACING)), path)


def with_value(value: float, everywhere: bool = False) -> Build:
    volume = ct().astype(np.float32)
    volume[... if everywhere else (10, 8, 12)] = value
    return nifti(volume)


def affine_with(change: Callable[[Array], Any]) -> Build:
    affine = diagonal_affine(SPACING)
    change(affine)
    return header(sform_code=1, srow_x=affine[0], srow_y=affine[1], srow_z=affine[2])


def rgb() -> Array:
    colors = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colors["R"] = ct() > 0
    return colors


def sheared(affine: Array) -> None:
    affine[0, 2] = 2.0


def oblique(affine: Array) -> None:
    cosine, sine = np.cos(0.3), np.sin(0.3)
    affine[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ affine[:3, :3]


NIFTI = [
    Case("good_1.nii.gz", "ok", "", nifti()),
    Case("good_2.nii", "ok", "", nifti()),
    # Bytes
    Case("truncated_gzip.nii.gz", "failed", "voxels cannot be read", cut(9000)),
    Case("truncated_gzip_header.nii.gz", "failed", "cannot be read as NIfTI", cut(60)),
    Case("truncated_plain.nii", "failed", "cut short", cut(20000)),
    Case("header_only.nii", "failed", "cut short", cut(352)),
    Case("half_a_header.nii", "failed", "cannot be read as NIfTI", cut(100)),
    Case("zero_bytes.nii.gz", "failed", "cannot be read as NIfTI", raw(b"")),
    Case("zero_bytes.nii", "failed", "cannot be read as NIfTI", raw(b"")),
    Case("text.nii.gz", "failed", "cannot be read as NIfTI", raw(b"no image\n" * 100)),
    Case("png.nii", "failed", "cannot be read as NIfTI", png),
    Case("gzip_of_garbage.nii.gz", "failed", "cannot be read as NIfTI", raw(gzip.compress(bytes(range(256)) * 20))),
    Case("plain_named_gz.nii.gz", "failed", "cannot be read as NIfTI", plain_bytes),
    Case("gzip_named_plain.nii", "failed", "cannot be read as NIfTI", gzip_bytes),
    Case("enormous.nii", "failed", "too short to hold", header(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])),
    Case("enormous.nii.gz", "failed", "too short to hold", header(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])),
    Case("large_for_its_bytes.nii.gz", "failed", "voxels cannot be read", header(dim=[3, 320, 160, 31, 1, 1, 1, 1])),
    Case("negative_dimension.nii.gz", "failed", "-16", header(dim=[3, 32, -16, 31, 1, 1, 1, 1])),
    Case("unknown_type.nii.gz", "failed", "cannot be read as NIfTI", header(datatype=9999)),
    Case("no_magic.nii.gz", "failed", "cannot be read as NIfTI", header(magic=b"abc")),
    # Types
    Case("complex.nii.gz", "failed", "complex", nifti(ct().astype(np.complex64))),
    Case("rgb.nii.gz", "failed", "colors", nifti(rgb())),
    Case("float64.nii.gz", "ok", "", nifti(ct().astype(np.float64))),
    Case("int64.nii.gz", "ok", "", nifti(ct().astype(np.int64))),
    Case("big_endian.nii", "ok", "", big_endian),
    Case("nifti_2.nii.gz", "ok", "", nifti_2),
    Case("slope.nii.gz", "ok", "", header((ct() + 1024).astype(np.uint16), scl_slope=1, scl_inter=-1024)),
    Case("windowed.nii.gz", "warning", "8-bit", nifti(np.clip(ct() / 4 + 60, 0, 255).astype(np.uint8))),
    Case("boolean.nii.gz", "warning", "normalized, not HU", nifti((ct() > 0).astype(np.uint8))),
    # Values
    Case("all_nan.nii.gz", "failed", "NaN", with_value(np.nan, everywhere=True)),
    Case("one_nan.nii.gz", "failed", "NaN", with_value(np.nan)),
    Case("infinite.nii.gz", "failed", "infinite", with_value(np.inf)),
    Case("constant.nii.gz", "failed", "every voxel is 40", with_value(40, everywhere=True)),
    Case("zeros.nii.gz", "failed", "every voxel is 0", with_value(0, everywhere=True)),
    Case("mr.nii.gz", "warning", "or like MR, not HU", nifti(np.maximum(ct() + 1100, 0).astype(np.uint16))),
    Case("shifted.nii.gz", "warning", "CT plus about 1000", nifti((ct() + 1024).astype(np.int16))),
    # Shapes
    Case("two_dimensions.nii.gz", "failed", "2 dimensions", nifti(ct()[:, 8])),
    Case("four_dimensions.nii.gz", "failed", "3 channels", nifti(np.stack([ct()] * 3, axis=-1))),
    Case("five_dimensions.nii.gz", "failed", "5 dimensions", nifti(np.stack([ct()] * 2, axis=-1)[..., None, :])),
    Case("four_dimensions_one_volume.nii.gz", "ok", "", nifti(ct()[..., None])),
    Case("one_coronal_slice.nii.gz", "warning", "field of view", nifti(ct((32, 3, 31))[:, 1:2])),
    Case("one_axial_slice.nii.gz", "failed", "too few", nifti(ct()[..., 15:16])),
    Case("one_voxel.nii.gz", "failed", "too few", nifti(ct()[:1, :1, :1])),
    Case("no_voxel.nii.gz", "failed", "so none", header(dim=[3, 32, 0, 31, 1, 1, 1, 1])),
    # Grids
    Case("oblique.nii.gz", "ok", "", affine_with(oblique)),
    Case("sheared.nii.gz", "failed", "sheared", affine_with(sheared)),
    Case("singular.nii.gz", "failed", "singular", affine_with(lambda affine: affine.__setitem__((0, 0), 0))),
    Case("nan_affine.nii.gz", "failed", "singular", affine_with(lambda affine: affine.__setitem__((0, 3), np.nan))),
    Case("huge_spacing.nii.gz", "failed", "470 mm", nifti(affine=diagonal_affine((4.7, 6.2, 470)))),
    Case("tiny_spacing.nii.gz", "warning", "field of view", nifti(affine=diagonal_affine((0.47, 0.62, 0.47)))),
    Case("unlike_its_pixdim.nii.gz", "warning", "disagree", header(pixdim=[1, 4.5, 6.2, 4.7, 0, 0, 0, 0])),
    Case("meters.nii.gz", "failed", "no spacing", nifti(affine=diagonal_affine((0.0008, 0.0008, 0.001)))),
    Case(
        "zero_spacing.nii.gz",
        "failed",
        "no voxel size",
        header(sform_code=0, qform_code=1, pixdim=[1, 0, 6.2, 4.7, 0, 0, 0, 0]),
    ),
    Case(
        "negative_spacing.nii.gz",
        "warning",
        "negative voxel sizes",
        header(sform_code=0, qform_code=1, pixdim=[1, -4.7, 6.2, 4.7, 0, 0, 0, 0]),
    ),
    Case("no_codes.nii.gz", "warning", "neither sform nor qform", header(sform_code=0, qform_code=0)),
]

# --- DICOM ------------------------------------------------------------------------------------------------------------


def series(edit: Edit | None = None, shape: Sequence[int] = DICOM_SHAPE, ending: str = ".dcm") -> Build:
    """Writes the usual CT as a series and changes each slice."""

    def build(folder: Path) -> None:
        write_dicom_series(folder, ct(shape), DICOM_SPACING, ending)
        if edit is not None:
            edit_dicom(sorted(folder.iterdir()), edit)

    return build


def named_series(number: str) -> Build:
    """Adds a series of a known UID, and so of a known name of its mask, to a folder that may hold others."""

    def build(folder: Path) -> None:
        temporary = folder.with_name(f"{folder.name}_{number}")
        series(setting(SeriesInstanceUID=UID_ROOT + number))(temporary)
        folder.mkdir(exist_ok=True)
        for file in temporary.iterdir():
            file.rename(folder / f"{number}_{file.name}")
        temporary.rmdir()

    return build


def among_others(folder: str, series_uid: str) -> str:
    """Returns what the manifest calls a series that shares its folder with others."""
    return f"{folder} ({folder}_{hashlib.sha256(series_uid.encode()).hexdigest()[:8]})"


def then(change: Callable[[Path], Any], **options: Any) -> Build:
    """Writes the usual series, then changes its folder."""

    def build(folder: Path) -> None:
        series(**options)(folder)
        change(folder)

    return build


def on_slice(number: int, change: Callable[[Path], Any]) -> Build:
    """Writes the usual series, then changes the file of one slice."""
    return then(lambda folder: change(folder / f"slice_{number:03d}.dcm"))


def copy_with(**elements: Any) -> Callable[[Path], None]:
    """Copies a slice to another file of the folder, with other elements."""

    def change(file: Path) -> None:
        dicom = pydicom.dcmread(file)
        for name, value in elements.items():
            setattr(dicom, name, value)
        dicom.save_as(file.with_name("another.dcm"))

    return change


def setting(**elements: Any) -> Edit:
    def edit(dicom: pydicom.Dataset, index: int) -> None:
        for name, value in elements.items():
            setattr(dicom, name, value)
        if "SOPClassUID" in elements:
            dicom.file_meta.MediaStorageSOPClassUID = elements["SOPClassUID"]

    return edit


def without(*names: str) -> Edit:
    def edit(dicom: pydicom.Dataset, index: int) -> None:
        for name in names:
            delattr(dicom, name)

    return edit


def tilt(dicom: pydicom.Dataset, index: int) -> None:
    dicom.ImagePositionPatient = [0, 2.0 * index, 6.2 * index]


def other_size(dicom: pydicom.Dataset, index: int) -> None:
    if index > 8:
        dicom.Rows, dicom.PixelData = 16, dicom.PixelData[: 16 * 32 * 2]


def keep_one(folder: Path) -> None:
    for file in sorted(folder.iterdir())[1:]:
        file.unlink()


def phases(dicom: pydicom.Dataset, index: int) -> None:
    """Makes every second slice one of a second acquisition at the place of the slice before it."""
    dicom.SeriesInstanceUID, dicom.AcquisitionNumber = UID_ROOT + "4", 1 + index % 2
    dicom.ImagePositionPatient = [0, 0, 6.2 * (index // 2)]


def incomplete_phases(dicom: pydicom.Dataset, index: int) -> None:
    dicom.AcquisitionNumber = 1 + index % 2 if index < 12 else 1


def with_comma(file: Path) -> None:
    """Writes the pixel spacing of a slice as a program in a German locale would."""
    file.write_bytes(file.read_bytes().replace(rb"4.7\4.7", rb"4,7\4,7"))


def brighten(file: Path) -> None:
    """Copies a slice with its UID to another file, with another pixel."""
    dicom = pydicom.dcmread(file)
    dicom.PixelData = dicom.PixelData[:-2] + bytes(2)
    dicom.save_as(file.with_name("another.dcm"))


def frames(change: Callable[[pydicom.Dataset], Any]) -> Build:
    """Writes the usual CT as one Enhanced CT file and changes it."""

    def build(folder: Path) -> None:
        file = write_enhanced_ct(folder / "frames.dcm", ct(DICOM_SHAPE), DICOM_SPACING)
        dicom = pydicom.dcmread(file)
        dicom.SeriesInstanceUID = pydicom.uid.generate_uid()
        change(dicom)
        dicom.save_as(file)

    return build


def setting_class(sop_class: UID) -> Callable[[pydicom.Dataset], None]:
    return lambda dicom: setting(SOPClassUID=sop_class)(dicom, 0)


def without_places(dicom: pydicom.Dataset) -> None:
    del dicom.PerFrameFunctionalGroupsSequence


def cut_to(size: int) -> Callable[[Path], None]:
    return lambda file: os.truncate(file, size)


def write_text(folder: Path) -> None:
    (folder / "notes.dcm").write_text("none", encoding="utf-8")


def nothing(folder: Path) -> None:
    """Adds nothing to a folder that has two entries in the manifest."""


def garble(file: Path) -> None:
    """Makes a slice one that says that it is compressed and is not."""
    dicom = pydicom.dcmread(file)
    dicom.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dicom.PixelData = encapsulate([dicom.PixelData])
    dicom["PixelData"].is_undefined_length = True
    dicom.save_as(file)


def strip(file: Path, name: str) -> None:
    """Removes an element of a slice."""
    dicom = pydicom.dcmread(file)
    delattr(dicom, name)
    dicom.save_as(file)


def structures(folder: Path) -> None:
    """Writes an RTSTRUCT-like object: no pixels, no geometry."""
    series(setting(SOPClassUID=RTStructureSetStorage, Modality="RTSTRUCT"))(folder)
    keep_one(folder)
    file = next(folder.iterdir())
    dicom = pydicom.dcmread(file)
    without("PixelData", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")(dicom, 0)
    dicom.save_as(file)


def directory(folder: Path) -> None:
    """Writes a DICOMDIR beside the series of a folder."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DIRECTORY_STORAGE, UID(UID_ROOT + "3")
    dicom = pydicom.dataset.FileDataset(folder / "DICOMDIR", {}, file_meta=meta, preamble=bytes(128))
    dicom.FileSetID = "NOTHING"
    dicom.save_as(folder / "DICOMDIR", enforce_file_format=True)


DICOM = [
    Case("dicom_good", "ok", "", series()),
    Case("dicom_no_endings", "ok", "", series(ending="")),
    Case("dicom_named.nii", "ok", "", series()),
    Case("dicom_with_text", "warning", "notes.dcm beside it cannot be read as DICOM", then(write_text)),
    Case("dicom_cut_in_its_pixels", "failed", "cut short", on_slice(5, cut_to(1500))),
    Case("dicom_cut_before_its_pixels", "failed", "cut short", on_slice(5, cut_to(900))),
    Case("dicom_cut_in_its_header", "failed", "missing", on_slice(5, cut_to(500))),
    Case("dicom_cut_in_its_header", "failed", "cut short", nothing, among_others("dicom_cut_in_its_header", "")),
    Case("dicom_zero_bytes", "failed", "missing", on_slice(5, cut_to(0))),
    Case("dicom_last_cut_in_its_pixels", "failed", "cut short", on_slice(15, cut_to(1500))),
    Case("dicom_last_cut_before_its_pixels", "failed", "cut short", on_slice(15, cut_to(900))),
    Case("dicom_last_cut_in_its_header", "warning", "may be incomplete", on_slice(15, cut_to(500)), lost=1),
    Case(
        "dicom_last_cut_in_its_header", "failed", "cut short", nothing, among_others("dicom_last_cut_in_its_header", "")
    ),
    Case("dicom_last_zero_bytes", "warning", "may be incomplete", on_slice(15, cut_to(0)), lost=1),
    Case("dicom_not_decodable", "failed", "slice_005.dcm: its pixels cannot be decoded", on_slice(5, garble)),
    Case("dicom_missing_slice", "failed", "missing", on_slice(5, Path.unlink)),
    Case("dicom_repeated_slice", "warning", "repeat", on_slice(5, copy_with())),
    Case("dicom_same_uid", "failed", "same SOP instance UID", on_slice(5, copy_with(ImagePositionPatient=[0, 0, 500]))),
    Case("dicom_sizes", "failed", "numbers of rows", series(other_size)),
    Case("dicom_tilt", "failed", "tilt", series(tilt)),
    Case("dicom_no_pixels", "failed", "voxels cannot be read", series(without("PixelData"))),
    Case("dicom_one_without_pixels", "failed", "cut short", on_slice(5, lambda file: strip(file, "PixelData"))),
    Case("dicom_no_spacing", "failed", "its position is unknown", series(without("PixelSpacing"))),
    Case("dicom_no_position", "failed", "its position is unknown", series(without("ImagePositionPatient"))),
    Case(
        "dicom_orientation_of_4",
        "failed",
        "its position is unknown",
        series(setting(ImageOrientationPatient=[1, 0, 0, 1])),
    ),
    Case(
        "dicom_not_right_angled", "failed", "right-angled", series(setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]))
    ),
    Case("dicom_monochrome1", "ok", "", series(setting(PhotometricInterpretation="MONOCHROME1"))),
    Case("dicom_palette", "failed", "color image", series(setting(PhotometricInterpretation="PALETTE COLOR"))),
    Case("dicom_atomic_number", "failed", "RescaleType is Z_EFF", series(setting(RescaleType="Z_EFF"))),
    Case("dicom_comma", "failed", "its PixelSpacing is written with a decimal comma", on_slice(5, with_comma)),
    Case("dicom_high_bit", "failed", "HighBit", series(setting(BitsStored=12, HighBit=15))),
    Case("dicom_no_bits", "failed", "it lacks BitsAllocated", series(without("BitsAllocated"))),
    Case("dicom_same_uid_other_pixels", "failed", "same SOP instance UID", on_slice(5, brighten)),
    Case("dicom_broken_phases", "failed", "different AcquisitionNumber", series(incomplete_phases)),
    *(
        Case(
            "dicom_phases",
            "warning",
            "2 volumes that differ in AcquisitionNumber",
            series(phases, (*DICOM_SHAPE[:2], 2 * DICOM_SHAPE[2])) if number == 1 else nothing,
            among_others("dicom_phases", f"{UID_ROOT}4AcquisitionNumber={number:.1f};"),
        )
        for number in (1, 2)
    ),
    Case("dicom_enhanced", "ok", "", frames(lambda dicom: None)),
    Case("dicom_legacy_converted", "ok", "", frames(setting_class(LegacyConvertedEnhancedCTImageStorage))),
    Case("dicom_frames_without_places", "failed", "NumberOfFrames", frames(without_places)),
    Case("dicom_mr", "skipped", "modality MR", series(setting(SOPClassUID=MRImageStorage, Modality="MR"))),
    Case("dicom_localizer", "skipped", "localizer", series(setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))),
    Case("dicom_structures", "skipped", "RT Structure Set", structures),
    Case("dicom_capture", "skipped", "secondary capture", series(setting(SOPClassUID=SecondaryCaptureImageStorage))),
    Case("dicom_two", "ok", "", named_series("1"), among_others("dicom_two", UID_ROOT + "1")),
    Case("dicom_two", "ok", "", named_series("2"), among_others("dicom_two", UID_ROOT + "2")),
    Case("dicom_directory", "ok", "", series()),
    Case("dicom_directory", "skipped", "Media Storage Directory", directory, among_others("dicom_directory", "")),
    Case("dicom_single_slice", "skipped", "single slice", then(keep_one)),
]

# --- File system ------------------------------------------------------------------------------------------------------


def link_to(target: str) -> Build:
    return lambda path: path.symlink_to(target)


def empty_folder(path: Path) -> None:
    (path / "deeper" / "still").mkdir(parents=True)


LONG = "long_" * 40  # 200 characters
TOO_LONG = "x" * 246 + ".nii"  # a file of this name is possible, its mask is not
NOT_TEXT = os.fsdecode(b"not_\xff_text.nii.gz")

FILE_SYSTEM = [
    Case("with spaces/a b.nii.gz", "ok", "", nifti()),
    Case("größe_心臓.nii.gz", "ok", "", nifti()),
    Case("[brackets]/a[0-9]*.nii.gz", "ok", "", nifti()),
    Case("[dicom]*", "ok", "", series()),
    Case("number#1.nii.gz", "ok", "", nifti()),
    Case("percent%20%s{0}$x@y.nii.gz", "ok", "", nifti()),
    Case("<b>&amp;'\".nii.gz", "ok", "", nifti()),
    Case("-dash.nii.gz", "ok", "", nifti()),
    Case("UPPER.NII.GZ", "ok", "", nifti()),
    Case("two\nlines.nii.gz", "ok", "", nifti()),
    Case(NOT_TEXT, "ok", "", nifti()),
    Case(f"{LONG}.nii.gz", "ok", "", nifti()),
    Case(TOO_LONG, "failed", "too long", nifti()),
    Case("/".join(map(str, range(10))) + "/deep.nii.gz", "ok", "", nifti()),
    Case("twins/a.nii", "ok", "", nifti()),
    Case("twins/a.nii.gz", "ok", "", nifti()),
    Case("patient_1/series1", "ok", "", series()),
    Case("patient_2/series1", "ok", "", series()),
    Case("linked/scan.nii.gz", "ok", "", nifti()),
    Case("linked/z.nii.gz", "absent", "", link_to("scan.nii.gz")),  # where it leads is listed
    Case("linked/loop", "absent", "", link_to("..")),
    Case("linked/itself.nii.gz", "failed", "symbolic links", link_to("itself.nii.gz")),
    Case("linked/dangling.nii.gz", "failed", "where the link leads", link_to("nowhere.nii.gz")),
    Case("linked/device.nii.gz", "failed", "neither a file nor a folder", link_to("/dev/zero")),
    Case("pipe.nii.gz", "failed", "neither a file nor a folder", os.mkfifo),
    Case("pipe", "absent", "", os.mkfifo),
    Case("empty", "absent", "", empty_folder),
    Case("empty.nii.gz", "absent", "", Path.mkdir),
    Case("notes.txt", "absent", "", raw(b"no scan")),
    Case(".hidden.nii.gz", "absent", "", nifti()),
    Case(".hidden/scan.nii.gz", "absent", "", nifti()),
    Case("earlier_seg.nii.gz", "absent", "", nifti((ct() > 0).astype(np.uint8))),
    Case("labels/final/good_1.nii.gz", "absent", "", nifti((ct() > 0).astype(np.uint8))),
]
CASES = [*NIFTI, *DICOM, *FILE_SYSTEM]


def write_hostile_folder(root: Path) -> None:
    """Writes every case below `root`."""
    for case in CASES:
        path = root / case.path
        path.parent.mkdir(parents=True, exist_ok=True)
        case.build(path)
