"""Headers of DICOM slices: reads them, checks that all pixels are there, and recognizes CT scans."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from sifa.utils.errors import InputError

# All elements that are read of a header: none identifies the patient.
KIND_TAGS = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType"]
PLACE_TAGS = ["Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"]
SIZE_TAGS = ["BitsAllocated", "SamplesPerPixel", "NumberOfFrames"]
VALUE_TAGS = ["RescaleSlope", "RescaleIntercept", "PixelRepresentation", "PixelPaddingValue"]
FRAME_TAGS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
HEADER_TAGS = [*KIND_TAGS, *PLACE_TAGS, *SIZE_TAGS, *VALUE_TAGS, *FRAME_TAGS]
DICOM_SUFFIXES = (".dcm", ".ima")  # only DICOM has these
BARE_BEGINNINGS = (b"\x02\x00", b"\x08\x00")  # without a preamble: the group of a first element, little endian

CT_STORAGE = (CTImageStorage, EnhancedCTImageStorage)
UNCOMPRESSED = (None, ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
PIXELS, PIXELS_BIG_ENDIAN = b"\xe0\x7f", b"\x7f\xe0"  # the group of the pixel data
LONG_VRS = (
    b"OB",
    b"OW",
    b"OF",
    b"OD",
    b"OV",
    b"UN",
)  # of pixel data; no length without a VR begins like them
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM, END_OF_ITEMS = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)

CLOSED = "it cannot be read as DICOM: check its permissions, or copy its series again."
DAMAGED = "it cannot be read as DICOM, it is damaged or cut short: copy its series again."
NO_PIXELS = "its voxels cannot be read, it is cut short before them: copy its series again."
PIXELS_CUT = "its voxels cannot be read, it is cut short or damaged within them: copy its series again."


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The header of a slice, in mm and the patient's axes (LPS); `()` where the header lacks the element.

    A file that cannot be used has a `fault`. Where its header is incomplete, `sop_class` is empty and at most `series`
    is given.
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
    fault: str = ""  # the end of a sentence that begins with the file


def read_slices(file: Path) -> list[SliceHeader]:
    """Reads the header of a file: one slice, one for each frame of a multi-frame file, or none if it is not DICOM.

    CT files that are cut short have a `fault`, and so have files that cannot be read if they are DICOM or named so.
    """
    if os.path.exists(file) and not os.path.isfile(file):  # opening a named pipe would wait forever
        return []
    may_be_bare = kind_of_name(file) in ("", *DICOM_SUFFIXES)
    dataset = Dataset()
    try:
        with file.open("rb") as stream, disable_value_validation():  # its warnings would quote values
            start = stream.read(132)
            bare = start[128:] != b"DICM"
            if bare and not (may_be_bare and start[:2] in BARE_BEGINNINGS):
                return []
            stream.seek(0)
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=HEADER_TAGS)
            fault = _pixel_fault(stream, dataset)
            slices = [_slice(file, frame, index) for index, frame in enumerate(_frames(dataset))]
    except OSError:
        return [SliceHeader(file, fault=CLOSED)] if may_be_bare else []
    except Exception:  # a damaged header fails in many ways: EOFError, struct.error, ValueError, zlib.error...
        return [SliceHeader(file, series=_series_of(dataset), fault=DAMAGED)]
    first = slices[0]
    if not first.sop_class:
        return [] if bare else [SliceHeader(file, series=first.series, fault=DAMAGED)]
    if not fault or not any(kind.startswith(first.sop_class) for kind in CT_STORAGE):  # a class may be cut short, too
        return slices
    if fault == NO_PIXELS:  # perhaps the header ends within an element, whose beginning must not be taken for all of it
        return [SliceHeader(file, series=first.series, fault=fault)]
    return [replace(header, fault=fault) for header in slices]


def kind_of_name(file: Path) -> str:
    """Returns the extension of a file in lower case; empty where it has none or ends like a UID, `.123`."""
    return "" if file.suffix[1:].isdigit() else file.suffix.lower()


def may_be_lost_slice(file: Path, kinds: Container[str]) -> bool:
    """Returns whether a file that is not DICOM may have been a slice of the series beside it.

    That is so if it has an extension of DICOM; or if it has the extension of the slices and begins like one, is empty,
    or begins with zeros, as an interrupted copy does.

    Args:
        file: a file without slices, see `read_slices`.
        kinds: what `kind_of_name` returned for the slices.
    """
    kind = kind_of_name(file)
    if kind in DICOM_SUFFIXES:
        return True
    if kind not in kinds or not file.is_file():
        return False
    with suppress(OSError), file.open("rb") as stream:
        start = stream.read(132)
        return start[:2] in BARE_BEGINNINGS or not any(start)
    return False


def read_headers(files: Sequence[Path | str]) -> list[SliceHeader]:
    """Reads the headers of a series, one `SliceHeader` for each slice.

    Raises:
        InputError: when a file cannot be read or is cut short.
    """
    headers: list[SliceHeader] = []
    for file in map(Path, files):
        slices = read_slices(file)
        fault = slices[0].fault if slices else DAMAGED
        if fault:
            raise InputError(f"{file}: {fault}")
        headers.extend(slices)
    return headers


def _series_of(dataset: Dataset) -> str:
    """Returns the series of a header whose other elements may be unreadable."""
    with suppress(Exception):
        return str(dataset.get("SeriesInstanceUID") or "")
    return ""


def _pixel_fault(stream: BinaryIO, dataset: Dataset) -> str:
    """Returns what is wrong with the pixel data at which `stream` is positioned; no pixel is read."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        return ""  # pydicom has already unpacked the whole file
    element = stream.read(8)  # tag and length, or tag, VR, two unused bytes and then the length
    if element[:2] not in (PIXELS, PIXELS_BIG_ENDIAN):
        return NO_PIXELS
    order = ">" if element[:2] == PIXELS_BIG_ENDIAN else "<"
    number = stream.read(4) if element[4:6] in LONG_VRS else element[4:]
    if len(number) < 4:
        return NO_PIXELS
    (length,) = struct.unpack(f"{order}L", number)
    frames = int(dataset.get("NumberOfFrames") or 1)
    size = os.fstat(stream.fileno()).st_size
    if length == UNDEFINED_LENGTH:
        return "" if _count_fragments(stream, order, size) >= frames else PIXELS_CUT
    samples = (
        int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) * int(dataset.get("SamplesPerPixel") or 1)
    )
    announced = math.ceil(frames * samples * int(dataset.get("BitsAllocated") or 0) / 8)
    needed = announced if syntax in UNCOMPRESSED and announced else max(length, 1)
    return "" if min(length, size - stream.tell()) >= needed else PIXELS_CUT


def _count_fragments(stream: BinaryIO, order: str, size: int) -> int:
    """Returns how many fragments compressed pixel data has, at least one a frame; -1 where one is cut or damaged.

    Of 20 RLE slices cut short at different places, this notices 20, `pydicom.encaps.parse_fragments` 1, and highdicom's
    `ImageFileReader` none.
    """
    count = -1  # the first item is a table of offsets
    while len(item := stream.read(8)) == 8:  # a writer may have left out the end mark
        group, element, length = struct.unpack(f"{order}HHL", item)
        if (group, element) == END_OF_ITEMS:
            break
        if (group, element) != ITEM or stream.seek(length, os.SEEK_CUR) > size:
            return -1
        count += 1
    return count


def _frames(dataset: Dataset) -> list[Dataset]:
    """Returns the frames of a multi-frame file, each with the elements of a single slice; otherwise the slice."""
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
        padding -= 65536  # a signed number written as an unsigned one
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
    """Returns the values of an element as a sequence, however many there are."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) or not hasattr(value, "__iter__") else value


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, _several(value)))


def skip_reason(header: SliceHeader) -> str:
    """Returns why an object is not to be segmented, without patient data; empty when it is to be segmented."""
    name = UID(header.sop_class).name
    modality = header.modality if header.modality.isalpha() and len(header.modality) <= 16 else "unknown"
    if not header.sop_class:
        return ""
    if "Secondary Capture" in name:
        return "a secondary capture, not an original scan"
    if header.sop_class not in CT_STORAGE:
        image = name.endswith("Image Storage") and modality != "CT"
        return f"modality {modality}, not CT" if image else f"SOP class {name}, not CT Image Storage"
    if header.modality not in ("CT", ""):
        return f"modality {modality}, not CT"
    return "a localizer" if "LOCALIZER" in header.image_type else ""


def in_slice_order(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Sorts slices along the normal of the first one; by file name where a header lacks its position."""
    by_name = sorted(headers, key=lambda header: header.file)
    if any(len(header.orientation) != 6 or len(header.position) != 3 for header in headers):
        return by_name
    normal = slice_normal(by_name[0])
    return sorted(by_name, key=lambda header: float(np.dot(normal, header.position)))


def slice_normal(header: SliceHeader) -> npt.NDArray[np.float64]:
    """Returns the normal of a slice, LPS; of length 1 when the directions of rows and columns are orthogonal."""
    return np.cross(header.orientation[:3], header.orientation[3:])
