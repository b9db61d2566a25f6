"""DICOM series: headers without pixels, what counts as a CT scan, slice geometry, and a folder for the stock reader."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pydicom
import torch
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage

from sifa.errors import InputError

# All that is read of a header: nothing that tells who the patient is.
KIND_TAGS = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType"]
PLACE_TAGS = ["Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"]
VALUE_TAGS = ["RescaleSlope", "RescaleIntercept", "PixelRepresentation", "PixelPaddingValue"]
FRAME_TAGS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
HEADER_TAGS = [*KIND_TAGS, *PLACE_TAGS, *VALUE_TAGS, *FRAME_TAGS]
# Where these differ, if only as `3` and `3.0`, MONAI's ITKReader takes one series for several and reads the first.
SPLITTING_TAGS = ["SeriesDate", "SequenceName", "SliceThickness", "SeriesInstanceUID", "SeriesNumber"]
BARE_SUFFIXES = ("", ".dcm", ".ima")  # of files that may lack the preamble; so may names that end like a UID, in `.123`
BARE_BEGINNINGS = (b"\x02\x00", b"\x08\x00")  # the group of a first element, little endian

AIR, CEILING = -1024, 3071  # HU: the least and the greatest of a 12-bit CT
PADDING_BELOW = -1500  # HU: no tissue and no noise in air is that low; scanners pad with -2000, -2048 or -3024
PLAUSIBLE_PADDING = -900  # HU: a declared padding between this and the ceiling would be tissue, and is not believed


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What is read of a slice's header, in mm and the patient's axes (LPS); `()` where the header does not say.

    A header with an empty `sop_class` stands for a file that is there and cannot be read.
    """

    file: Path
    sop_class: str = ""
    sop_instance: str = ""
    series: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)  # rows, columns
    pixel_spacing: tuple[float, ...] = ()  # between rows, between columns
    orientation: tuple[float, ...] = ()  # direction along a row, direction along a column
    position: tuple[float, ...] = ()  # of the first voxel's center
    rescale: tuple[float, float] = (1.0, 0.0)  # slope, intercept
    padding: float | None = None  # PixelPaddingValue in HU


class CheckedSeries(NamedTuple):
    """A series that may be segmented: `shape` and `spacing` (mm) are along rows' direction, columns', slices'."""

    files: list[Path]
    warnings: list[str]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    padding: float | None  # PixelPaddingValue in HU


def read_slices(file: Path) -> list[SliceHeader]:
    """Reads the header of a file: one slice, or one for each frame of a multi-frame file, or none if it is no DICOM.

    A DICOM file, or one named like one, that cannot be read gives one `SliceHeader` without a `sop_class`.
    """
    if os.path.exists(file) and not os.path.isfile(file):  # opening a named pipe would wait forever
        return []
    may_be_bare = file.suffix.lower() in BARE_SUFFIXES or file.suffix[1:].isdigit()
    try:
        with file.open("rb") as stream, disable_value_validation():  # its warnings would quote values
            start = stream.read(132)
            bare = start[128:] != b"DICM"
            if bare and not (may_be_bare and start[:2] in BARE_BEGINNINGS):
                return []
            stream.seek(0)
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=HEADER_TAGS)
            slices = [_slice(file, frame, index) for index, frame in enumerate(_frames(dataset))]
    except OSError:
        return [SliceHeader(file)] if may_be_bare else []
    except Exception:  # a damaged header fails in many ways: EOFError, struct.error, ValueError, zlib.error...
        return [SliceHeader(file)]
    return [] if bare and not slices[0].sop_class else slices


def read_headers(files: Sequence[Path | str]) -> list[SliceHeader]:
    """Reads the headers of a series, a `SliceHeader` a slice.

    Raises:
        InputError: when a file cannot be read.
    """
    headers: list[SliceHeader] = []
    for file in map(Path, files):
        slices = read_slices(file)
        if not slices or not slices[0].sop_class:
            raise InputError(f"{file}: it cannot be read as DICOM: check its permissions, or copy its series anew.")
        headers.extend(slices)
    return headers


def _frames(dataset: Dataset) -> list[Dataset]:
    """Returns the frames of a multi-frame file with their elements as a single slice has them; else the slice."""
    frames = []
    for groups in dataset.get("PerFrameFunctionalGroupsSequence") or ():
        frame = Dataset()
        frame.update(dataset)
        for group in (*(dataset.get("SharedFunctionalGroupsSequence") or ()), groups):
            for element in group:
                if element.VR == "SQ" and element.value:
                    frame.update(element.value[0])
        frame.file_meta = dataset.file_meta
        frames.append(frame)
    return frames or [dataset]


def _slice(file: Path, dataset: Dataset, frame: int) -> SliceHeader:
    slope, intercept = (dataset.get("RescaleSlope") or 1, dataset.get("RescaleIntercept") or 0)
    padding = dataset.get("PixelPaddingValue")
    if padding is not None and dataset.get("PixelRepresentation") == 1 and padding > 32767:
        padding -= 65536  # a signed number that was written as an unsigned one
    instance = dataset.get("SOPInstanceUID") or ""
    return SliceHeader(
        file=file,
        sop_class=str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""),
        sop_instance=f"{instance}#{frame}" if instance and frame else str(instance),
        series=str(dataset.get("SeriesInstanceUID") or ""),
        modality=str(dataset.get("Modality") or ""),
        image_type=tuple(map(str, _several(dataset.get("ImageType")))),
        size=(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)),
        pixel_spacing=_numbers(dataset.get("PixelSpacing")),
        orientation=_numbers(dataset.get("ImageOrientationPatient")),
        position=_numbers(dataset.get("ImagePositionPatient")),
        rescale=(float(slope), float(intercept)),
        padding=None if padding is None else float(padding) * float(slope) + float(intercept),
    )


def _several(value: Any) -> Sequence[Any]:
    """Returns an element of any number of values as a sequence."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) or not hasattr(value, "__iter__") else value


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, _several(value)))


def skip_reason(header: SliceHeader) -> str:
    """Returns why an object is not to be segmented, in words free of the patient; empty when it may be."""
    name = UID(header.sop_class).name
    modality = header.modality if header.modality.isalpha() and len(header.modality) <= 16 else "unknown"
    if not header.sop_class:
        return ""
    if "Secondary Capture" in name:
        return "a secondary capture, not an original scan"
    if header.sop_class not in (CTImageStorage, EnhancedCTImageStorage):
        image = name.endswith("Image Storage") and modality != "CT"
        return f"modality {modality}, not CT" if image else f"SOP class {name}, not CT Image Storage"
    if header.modality not in ("CT", ""):
        return f"modality {modality}, not CT"
    return "a localizer" if "LOCALIZER" in header.image_type else ""


def in_slice_order(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Sorts slices along the normal of the first one; by the names of their files where a header lacks its place."""
    by_name = sorted(headers, key=lambda header: header.file)
    if any(len(header.orientation) != 6 or len(header.position) != 3 for header in headers):
        return by_name
    normal = _normal(by_name[0])
    return sorted(by_name, key=lambda header: float(np.dot(normal, header.position)))


def _normal(header: SliceHeader) -> npt.NDArray[np.float64]:
    return np.cross(header.orientation[:3], header.orientation[3:])


def check_geometry(headers: Sequence[SliceHeader]) -> CheckedSeries:
    """Checks that the slices of a series make one volume on a regular grid, which is what the stock reader assumes.

    A slice that is there twice is kept once, with a warning. Gaps between slices that differ from their median by more
    than 10 % and 0.1 mm give a warning (a file of several frames: a refusal), by more than 50 % a refusal.

    Args:
        headers: what `read_headers` returned, in any order.

    Returns:
        The files in slice order, warnings, and the shape and spacing that the volume has to have.

    Raises:
        InputError: when slices are missing, lie at the same place, tilted or shifted, differ in size, orientation or
            pixel spacing, or when a file of several frames is one that the stock reader reads wrongly.
    """
    folder = headers[0].file.parent
    unique = _without_repeats(headers, folder)
    _check_alike(unique, folder)
    slices = in_slice_order(unique)
    _check_stack(slices, folder)
    warnings = []
    if len(unique) < len(headers):
        repeats = len(headers) - len(unique)
        warnings.append(f"{folder}: {repeats} of {len(headers)} slices repeat others and are left out.")
    heights = np.array([np.dot(_normal(slices[0]), header.position) for header in slices])
    gaps = np.diff(heights)
    usual, worst = _check_gaps(gaps, folder)
    uneven = abs(worst - usual) > max(0.1 * usual, 0.1)
    if uneven:
        warnings.append(f"{folder}: slices lie unevenly: {worst:.2f} mm apart where {usual:.2f} mm are usual.")
    files = list(dict.fromkeys(header.file for header in slices))
    if len(files) < len(slices):
        _check_frames(unique, uneven, folder)
    rows, columns = slices[0].size
    between_rows, between_columns = slices[0].pixel_spacing
    step = math.dist(slices[0].position, slices[-1].position) / len(gaps)
    spacing = (between_columns, between_rows, step)
    return CheckedSeries(files, warnings, (columns, rows, len(slices)), spacing, slices[0].padding)


def _without_repeats(headers: Sequence[SliceHeader], folder: Path) -> list[SliceHeader]:
    kept: dict[str, SliceHeader] = {}
    for header in sorted(headers, key=lambda header: header.file):
        first = kept.setdefault(header.sop_instance or str(header.file), header)
        if replace(first, file=header.file) != header:
            raise InputError(f"{folder}: different slices carry the same SOP instance UID: export the series anew.")
    return list(kept.values())


def _check_alike(slices: Sequence[SliceHeader], folder: Path) -> None:
    for header in slices:
        place = (*header.position, *header.orientation, *header.pixel_spacing)
        if len(place) != 11 or not np.isfinite(place).all() or min(header.pixel_spacing) <= 0:
            raise InputError(
                f"{folder}: a slice does not say where it lies (position, orientation or pixel spacing is missing or "
                "wrong): export the original axial series."
            )
    first = slices[0]
    row, column = first.orientation[:3], first.orientation[3:]
    if abs(np.dot(row, column)) > 1e-2 or abs(np.dot(row, row) - 1) > 1e-2 or abs(np.dot(column, column) - 1) > 1e-2:
        raise InputError(f"{folder}: its orientation is not a pair of right-angled directions: export the series anew.")
    for words, values, tolerance in (
        ("numbers of rows or columns", [header.size for header in slices], 0.0),
        ("orientations", [header.orientation for header in slices], 1e-3),
        ("pixel spacings", [header.pixel_spacing for header in slices], 1e-3 * min(first.pixel_spacing)),
    ):
        if np.ptp(np.array(values, dtype=float), axis=0).max() > tolerance:
            raise InputError(f"{folder}: its slices have different {words}: split it into series that are uniform.")


def _check_stack(slices: Sequence[SliceHeader], folder: Path) -> None:
    """Refuses a single slice, and slices that do not lie straight above each other."""
    if len(slices) < 2:
        raise InputError(f"{folder}: it holds a single slice: give it the whole series.")
    normal = _normal(slices[0])
    steps = np.array([header.position for header in slices]) - slices[0].position
    heights = steps @ normal
    sideways = steps - np.outer(heights, normal)
    if heights[-1] < 1e-2:
        return  # all at one place, which `_check_gaps` refuses
    tilt = math.degrees(math.atan2(float(np.linalg.norm(sideways[-1])), heights[-1]))
    if tilt > 0.5:
        raise InputError(
            f"{folder}: its slices are tilted by {tilt:.1f} degrees against the direction of their stack (gantry "
            "tilt), which the reader would ignore: resample the series to a straight grid first."
        )
    shift = np.linalg.norm(sideways - np.outer(heights / heights[-1], sideways[-1]), axis=1).max()
    if shift > max(slices[0].pixel_spacing):
        raise InputError(
            f"{folder}: its slices are shifted sideways by up to {shift:.1f} mm: split it into series that are uniform."
        )


def _check_gaps(gaps: npt.NDArray[np.float64], folder: Path) -> tuple[float, float]:
    """Returns the median gap and the one that differs most from it, or refuses."""
    if gaps.min() < 1e-2:
        raise InputError(
            f"{folder}: several slices lie at the same place (phases or reconstructions in one series): export one "
            "phase as a series of its own."
        )
    usual = float(np.median(gaps))
    worst = float(gaps[np.argmax(np.abs(gaps - usual))])
    if gaps.max() > 1.5 * usual:
        raise InputError(
            f"{folder}: slices are missing: there is a gap of {gaps.max():.2f} mm where {usual:.2f} mm are usual: copy "
            "the whole series."
        )
    if gaps.min() < 0.5 * usual:
        raise InputError(
            f"{folder}: slices lie {gaps.min():.2f} mm apart where {usual:.2f} mm are usual: split it into series that "
            "are uniform."
        )
    return usual, worst


def _check_frames(unique: Sequence[SliceHeader], uneven: bool, folder: Path) -> None:
    """Refuses a file of several frames whose geometry or intensities ITK would get wrong."""
    heights = np.array([np.dot(_normal(unique[0]), header.position) for header in unique])
    steps = np.diff(heights)
    several = len({header.file for header in unique}) > 1
    if several or uneven or np.ptp(np.sign(steps)) > 0 or len({header.rescale for header in unique}) > 1:
        raise InputError(
            f"{folder}: its multi-frame file cannot be read reliably (frames out of order, uneven, of different "
            "intensity scales, or spread over several files): convert it to single-frame CT images."
        )


def check_loaded(folder: Path | str, checked: CheckedSeries, shape: Sequence[int], affine: Any) -> None:
    """Checks that the stock reader read the whole series: ITK leaves out a file that is cut short, without a word.

    Args:
        folder: the series' folder, for the message.
        checked: what `check_geometry` returned.
        shape: of the loaded volume, without channels.
        affine: of the loaded volume, 4 x 4.

    Raises:
        InputError: when the volume has not the shape or the spacing that the headers announce.
    """
    spacing = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    if tuple(shape) != checked.shape or not np.allclose(spacing, checked.spacing, rtol=1e-2):
        raise InputError(
            f"{folder}: it reads as {_grid(shape, spacing)} where its headers announce "
            f"{_grid(checked.shape, checked.spacing)}: a file is damaged or cut short; copy the series anew."
        )


def _grid(shape: Sequence[int], spacing: Sequence[float] | npt.NDArray[np.float64]) -> str:
    return f"{' x '.join(map(str, shape))} voxels of {' x '.join(f'{size:.2f}' for size in spacing)} mm"


@contextmanager
def staged_series(files: Sequence[Path | str]) -> Iterator[Path]:
    """Yields a folder from which the stock `LoadImaged` reads exactly this series; it is removed afterwards.

    It holds links `000000.dcm`, `000001.dcm`, ... in the order given. A file that the stock reader would not take with
    the others is copied instead, with a preamble and with the first file's `SPLITTING_TAGS`; pixels are not touched.

    Args:
        files: the slices' files, as `check_geometry` returned them.
    """
    first = pydicom.dcmread(files[0], stop_before_pixels=True, force=True, specific_tags=SPLITTING_TAGS)
    with tempfile.TemporaryDirectory(prefix="sifa-series-") as name:
        for index, file in enumerate(files):
            _stage(Path(file).absolute(), Path(name) / f"{index:06d}.dcm", first)
        yield Path(name)


def _stage(file: Path, target: Path, first: Dataset) -> None:
    header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=SPLITTING_TAGS)
    if header.preamble and all(str(header.get(tag)) == str(first.get(tag)) for tag in SPLITTING_TAGS):
        _link(file, target)
        return
    dataset = pydicom.dcmread(file, force=True)
    for tag in SPLITTING_TAGS:
        dataset.pop(tag, None)
        if tag in first:
            dataset[tag] = first[tag]
    if dataset.file_meta:
        dataset.preamble = bytes(128)
    dataset.save_as(target)


def _link(file: Path, target: Path) -> None:
    """Links `target` to `file`; where the system has no links, copies it."""
    for link in (os.symlink, os.link):
        with suppress(OSError):
            link(file, target)
            return
    shutil.copyfile(file, target)


Volume = TypeVar("Volume", npt.NDArray[Any], torch.Tensor)


def tame_padding(image: Volume, padding: float | None = None) -> Volume:
    """Sets voxels outside the scanner's field of view to air, -1024 HU, in place.

    Scanners fill the corners of a slice with values far below air (-2000, -2048, -3024), which would bend what a
    resampling filter makes of the skin beside them. Values of -1500 HU and less are such, and those that equal the
    header's PixelPaddingValue, unless that lies between -900 and 3071 HU and so could be tissue. A ceiling of 3071 HU
    (metal) stays.

    Args:
        image: HU, of any shape.
        padding: PixelPaddingValue in HU (`CheckedSeries.padding`), or None.

    Returns:
        `image` itself.
    """
    image[image <= PADDING_BELOW] = AIR
    if padding is not None and not PLAUSIBLE_PADDING < padding <= CEILING:
        image[(image > padding - 0.5) & (image < padding + 0.5)] = AIR
    return image
