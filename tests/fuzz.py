"""Variants of one CT scan, drawn by hypothesis: stored in other ways, which must not matter, or spoiled."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pydicom
from builders import ALL_AXCODES, Array, stored_as, write_dicom_series
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

HEADER_FIELDS = (
    *("sizeof_hdr", "dim_info", "intent_code", "datatype", "bitpix", "slice_start", "vox_offset", "scl_slope"),
    *(
        "scl_inter",
        "slice_code",
        "xyzt_units",
        "cal_max",
        "cal_min",
        "toffset",
        "qform_code",
        "sform_code",
        "quatern_b",
    ),
    *("quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)
VECTOR_FIELDS = (("dim", 8), ("pixdim", 8), ("srow_x", 4), ("srow_y", 4), ("srow_z", 4))
ODD = (
    0,
    1,
    -1,
    2,
    3,
    4,
    7,
    16,
    64,
    255,
    512,
    1024,
    32767,
    -32768,
    1e-30,
    1e30,
    float("nan"),
    float("inf"),
    -0.5,
    0.001,
)
ELEMENTS = (
    *("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope"),
    *("RescaleIntercept", "RescaleType", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("SamplesPerPixel", "PhotometricInterpretation", "Modality", "ImageType", "SOPClassUID", "SOPInstanceUID"),
    *("SeriesInstanceUID", "AcquisitionNumber", "AcquisitionTime", "TemporalPositionIdentifier", "ConvolutionKernel"),
    *("InstanceNumber", "SliceThickness", "SpacingBetweenSlices", "SliceLocation", "PixelPaddingValue"),
    *("NumberOfFrames", "GantryDetectorTilt", "PatientPosition", "FrameOfReferenceUID"),
)
VALUES: tuple[Any, ...] = (
    *(None, "", 0, 1, 2, -1, 8, 12, 16, 4096, 1e9, "0,75", "1\\2\\3", "MONOCHROME1", "RGB", "US", "HU", "MR", "Z_EFF"),
    *([1, 1], [0.5, 0], [1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0], [1, 0, 0, 1, 0, 0], [0, 0, 0], "LOCALIZER", "100000"),
)


@dataclass(frozen=True)
class Variant:
    """One input: how to write it below a folder, and what must hold.

    `same` says that it is the plain scan, stored in another way: it must not be refused, and its mask must be that of
    the plain scan. `free` says that it may be another scan, whose mask may differ.
    """

    description: str
    build: Callable[[Path], Any]
    same: bool = False
    free: bool = False


def is_another_scan(path: Path, volume: Array, affine: Array) -> bool:
    """Returns whether nibabel reads other values or another grid from a NIfTI file, so that its mask may differ."""
    try:
        image: Any = nib.load(path)
        values = np.asarray(image.dataobj, dtype=float)
    except Exception:
        return False
    values = values.reshape(values.shape[:3]) if values.size == np.prod(values.shape[:3]) else values
    return not (values.shape == volume.shape and np.array_equal(values, volume) and np.allclose(image.affine, affine))


def variants(volume: Array, affine: Array) -> st.SearchStrategy[Variant]:
    """Returns a strategy of variants of a CT in HU on a grid along the patient's axes."""
    return st.one_of(
        st.builds(
            lambda codes, kind, ending, intercept: _stored(volume, affine, codes, kind, ending, intercept),
            st.sampled_from(ALL_AXCODES),
            st.sampled_from(["<i2", ">i2", "<i4", "<u2", "<f4", ">f8", "<i8"]),
            st.sampled_from([".nii", ".nii.gz", ".NII.GZ", ".Nii", ".img", ".hdr", "_4d.nii.gz"]),
            st.sampled_from([0, -1024, -1000]),
        ),
        st.builds(
            lambda codes, ending: _by_itk(volume, affine, codes, ending),
            st.sampled_from(ALL_AXCODES),
            st.sampled_from([".nrrd", ".mha", ".mhd", ".nhdr"]),
        ),
        st.builds(
            lambda codes, share, ending: _cut(volume, affine, codes, share, ending),
            st.sampled_from(ALL_AXCODES),
            st.floats(0, 0.999),
            st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha"]),
        ),
        st.builds(
            lambda flips, ending: _flipped(volume, affine, flips, ending),
            st.lists(st.tuples(st.integers(0, 351), st.integers(1, 255)), min_size=1, max_size=3),
            st.sampled_from([".nii", ".nii.gz"]),
        ),
        st.builds(
            lambda field, place, value: _field(volume, affine, field, place, value),
            st.sampled_from([*HEADER_FIELDS, *(name for name, _ in VECTOR_FIELDS)]),
            st.integers(0, 7),
            st.sampled_from(ODD),
        ),
        st.builds(lambda name: _values(volume, affine, name), st.sampled_from(sorted(CHANGES))),
        st.builds(
            lambda name, order: _series(volume, affine, name, order),
            st.sampled_from(sorted(SAME_SERIES)),
            st.integers(0, 2**16),
        ),
        st.builds(
            lambda keyword, value, every, number: _element(volume, affine, keyword, value, every, number),
            st.sampled_from(ELEMENTS),
            st.sampled_from(VALUES),
            st.booleans(),
            st.integers(0, 10**6),
        ),
        st.builds(
            lambda name, number: _broken_series(volume, affine, name, number),
            st.sampled_from(sorted(BROKEN_SERIES)),
            st.integers(0, 10**6),
        ),
    )


def _image(volume: Array, affine: Array, codes: str) -> nib.Nifti1Image:
    return nib.Nifti1Image(*stored_as(volume, affine, codes))


def _stored(volume: Array, affine: Array, codes: str, kind: str, ending: str, intercept: int) -> Variant:
    def build(folder: Path) -> None:
        values, place = stored_as(volume, affine, codes)
        dtype, inter = np.dtype(kind), -1024 if kind == "<u2" else intercept
        stored = (values.astype(np.int64) - inter).astype(dtype)
        pair = ending in (".img", ".hdr")
        form = nib.Nifti1Pair if pair else nib.Nifti1Image
        header = form.header_class(endianness=kind[0])
        header.set_data_dtype(dtype)
        image = form(stored[..., None] if "4d" in ending else stored, place, header)
        image.header.set_slope_inter(1, inter)
        plain = folder / f"scan{'.img' if pair else '.nii.gz' if ending.lower().endswith('.gz') else '.nii'}"
        nib.save(image, plain)
        if not pair:
            plain.rename(folder / f"scan{ending}")

    return Variant(f"{kind} {codes} {ending} {intercept}", build, same=True)


def _by_itk(volume: Array, affine: Array, codes: str, ending: str) -> Variant:
    def build(folder: Path) -> None:
        nib.save(_image(volume, affine, codes), folder.parent / "for_itk.nii")
        itk.imwrite(itk.imread(str(folder.parent / "for_itk.nii")), str(folder / f"scan{ending}"))

    return Variant(f"{ending} {codes}", build, same=True)


def _cut(volume: Array, affine: Array, codes: str, share: float, ending: str) -> Variant:
    def build(folder: Path) -> None:
        whole = folder.parent / f"whole{ending}"
        if ending.startswith(".nii"):
            nib.save(_image(volume, affine, codes), whole)
        else:
            nib.save(_image(volume, affine, codes), folder.parent / "for_itk.nii")
            itk.imwrite(itk.imread(str(folder.parent / "for_itk.nii")), str(whole))
        data = whole.read_bytes()
        (folder / f"scan{ending}").write_bytes(data[: int(share * len(data))])

    return Variant(f"cut at {share:.3f} {ending}", build)


def _write_bytes(folder: Path, data: bytes, ending: str) -> None:
    (folder / f"scan{ending}").write_bytes(gzip.compress(data, 1) if ending.endswith(".gz") else data)


def _flipped(volume: Array, affine: Array, flips: list[tuple[int, int]], ending: str) -> Variant:
    def build(folder: Path) -> None:
        data = bytearray(nib.Nifti1Image(volume, affine).to_bytes())
        for place, bits in flips:
            data[place] ^= bits
        _write_bytes(folder, bytes(data), ending)

    return Variant(f"header bytes {flips}", build)


def _field(volume: Array, affine: Array, field: str, place: int, value: float) -> Variant:
    def build(folder: Path) -> None:
        data = nib.Nifti1Image(volume, affine).to_bytes()
        header = np.frombuffer(data[:348], dtype=nib.nifti1.header_dtype).copy()
        kind = header[field].dtype
        with np.errstate(all="ignore"):
            whole = 0 if kind.kind in "iu" and not np.isfinite(value) else value
            number = np.array(int(np.clip(whole, -(2**62), 2**62)) if kind.kind in "iu" else value).astype(kind)
        if header[field].ndim > 1:
            header[field][0, place % header[field].shape[1]] = number
        else:
            header[field] = number
        _write_bytes(folder, header.tobytes() + data[348:], ".nii")

    return Variant(f"{field}[{place}] = {value}", build)


CHANGES: dict[str, Callable[[Array], Array]] = {
    "nan": lambda volume: np.where(np.indices(volume.shape).sum(0) == 9, np.nan, volume.astype(np.float32)),
    "infinite": lambda volume: np.where(np.indices(volume.shape).sum(0) == 9, np.inf, volume.astype(np.float32)),
    "plus 1024": lambda volume: (volume + 1024).astype(np.int16),
    "minus 1024": lambda volume: (volume - 1024).astype(np.int16),
    "plus 1000": lambda volume: (volume + 1000).astype(np.int16),
    "8 bit": lambda volume: np.clip((volume + 160) / 400 * 255, 0, 255).astype(np.uint8),
    "0 to 1": lambda volume: np.clip(volume / 2000 + 0.5, 0, 1).astype(np.float32),
    "ten times": lambda volume: (volume.astype(np.int32) + 1024) * 10,
    "constant": np.zeros_like,
    "negated": lambda volume: (-volume).astype(np.int16),
    "two volumes": lambda volume: np.stack([volume] * 2, axis=-1),
    "one slice": lambda volume: volume[:, :, 0],
    "complex": lambda volume: volume.astype(np.complex64),
}


def _values(volume: Array, affine: Array, name: str) -> Variant:
    return Variant(name, lambda folder: nib.save(nib.Nifti1Image(CHANGES[name](volume), affine), folder / "scan.nii"))


# --- DICOM ------------------------------------------------------------------------------------------------------------


def _write_series(volume: Array, affine: Array, folder: Path) -> list[Path]:
    """Writes the scan as a series of single slices and returns its files in slice order."""
    values, place = stored_as(volume, affine, "LPS")
    spacing = nib.affines.voxel_sizes(place)
    series = write_dicom_series(folder / "series", values, tuple(spacing))
    origin = np.array([-1, -1, 1]) * place[:3, 3]
    files = sorted(series.iterdir())
    for number, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        dataset.ImagePositionPatient = [*map(float, origin[:2]), float(origin[2] + number * spacing[2])]
        dataset.save_as(file)
    return files


def _edit(files: list[Path], change: Callable[[pydicom.Dataset, int], Any]) -> Any:
    for number, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        change(dataset, number)
        dataset.save_as(file)


def _shuffle(files: list[Path], order: int) -> None:
    numbers = np.random.default_rng(order).permutation(len(files))
    for number, file in zip(numbers, files, strict=True):
        file.rename(file.with_name(f"{number:05d}.{'dcm' if order % 2 else 'ima'}"))


def _bare(files: list[Path], order: int) -> None:
    for file in files:
        file.rename(file.with_suffix(""))


def _monochrome_1(dataset: pydicom.Dataset, number: int) -> None:
    dataset.PhotometricInterpretation = "MONOCHROME1"


def _signed(dataset: pydicom.Dataset, number: int) -> None:
    dataset.PixelData = (dataset.pixel_array.astype(np.int32) - 1024).astype(np.int16).tobytes()
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0


def _twelve_bit(dataset: pydicom.Dataset, number: int) -> None:
    dataset.BitsStored, dataset.HighBit = 12, 11


def _implicit(dataset: pydicom.Dataset, number: int) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def _deflated(dataset: pydicom.Dataset, number: int) -> None:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def _own_times(dataset: pydicom.Dataset, number: int) -> None:
    dataset.AcquisitionNumber, dataset.AcquisitionTime = number + 1, f"1000{number % 60:02d}"
    dataset.InstanceNumber = 1000 - number


SAME_SERIES: dict[str, Callable[[list[Path], int], Any]] = {
    "shuffled": _shuffle,
    "without extension": _bare,
    "monochrome 1": lambda files, order: _edit(files, _monochrome_1),
    "signed": lambda files, order: _edit(files, _signed),
    "12 bit": lambda files, order: _edit(files, _twelve_bit),
    "12 bit monochrome 1": lambda files, order: (_edit(files, _twelve_bit), _edit(files, _monochrome_1)),
    "implicit": lambda files, order: _edit(files, _implicit),
    "deflated": lambda files, order: _edit(files, _deflated),
    "run-length encoded": lambda files, order: _edit(files, lambda dataset, number: dataset.compress(RLELossless)),
    "a time for each slice": lambda files, order: _edit(files, _own_times),
}


def _series(volume: Array, affine: Array, name: str, order: int) -> Variant:
    return Variant(
        f"series, {name}, {order}",
        lambda folder: SAME_SERIES[name](_write_series(volume, affine, folder), order),
        same=True,
    )


def _element(volume: Array, affine: Array, keyword: str, value: Any, every: bool, number: int) -> Variant:
    def build(folder: Path) -> None:
        files = _write_series(volume, affine, folder)
        for file in files if every else [files[number % len(files)]]:
            dataset = pydicom.dcmread(file)
            if value is None and keyword in dataset:
                delattr(dataset, keyword)
            elif value is not None:
                tag = pydicom.datadict.tag_for_keyword(keyword)
                assert tag is not None
                vr = pydicom.datadict.dictionary_VR(tag).split(" or ")[0]
                text = "\\".join(map(str, value)) if isinstance(value, list) else str(value)
                if vr in ("US", "SS"):
                    number_of_it = int(value) % 65536 if isinstance(value, int | float) else 0
                    dataset[tag] = pydicom.DataElement(tag, vr, number_of_it)
                else:  # as bytes, however invalid they are
                    data = text.encode() + b" " * (len(text) % 2)
                    dataset[tag] = pydicom.dataelem.RawDataElement(
                        pydicom.tag.Tag(tag), vr, len(data), data, 0, dataset.original_encoding[0] or False, True
                    )
            dataset.save_as(file, enforce_file_format=False)

    # changed everywhere alike, it may be another scan
    return Variant(f"{keyword} = {value!r} {'everywhere' if every else 'once'}", build, free=every)


def _drop(files: list[Path], number: int) -> None:
    files[1 + number % (len(files) - 2)].unlink()


def _repeat(files: list[Path], number: int) -> None:
    copy = shutil.copy(files[number % len(files)], files[0].with_name("copy.dcm"))
    _edit([Path(copy)], lambda dataset, _: setattr(dataset, "PixelData", bytes(reversed(dataset.PixelData))))


def _shorten(files: list[Path], number: int) -> None:
    file = files[number % len(files)]
    os.truncate(file, number % file.stat().st_size)


def _mix(files: list[Path], number: int) -> None:
    def change(dataset: pydicom.Dataset, place: int) -> None:
        dataset.AcquisitionNumber = 1 + place % 2
        if place % 2:
            dataset.PixelData = np.roll(dataset.pixel_array, 5, axis=0).tobytes()

    _edit(files, change)


def _tilt(files: list[Path], number: int) -> None:
    def change(dataset: pydicom.Dataset, place: int) -> None:
        left, back, up = map(float, dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [left, back + 0.1 * up, up]

    _edit(files, change)


BROKEN_SERIES: dict[str, Callable[[list[Path], int], Any]] = {
    "slice dropped": _drop,
    "slice repeated with other pixels": _repeat,
    "slice cut short": _shorten,
    "two acquisitions": _mix,
    "tilted": _tilt,
}


def _broken_series(volume: Array, affine: Array, name: str, number: int) -> Variant:
    return Variant(
        f"series, {name}, {number}", lambda folder: BROKEN_SERIES[name](_write_series(volume, affine, folder), number)
    )
