"""Headers of DICOM files: reads them, recognizes CT scans, and sorts slices."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from sifa.io.dicom_extent import NO_PIXELS, find_pixel_fault
from sifa.io.dicom_slice import NUMBERS_OF_TAGS, SliceHeader, slice_normal, slices_of
from sifa.utils.errors import InputError

DICOM_SUFFIXES = (".dcm", ".ima")  # only DICOM has these
BARE_BEGINNINGS = (b"\x02\x00", b"\x08\x00")  # without a preamble: the group of a first element, little endian

CT_STORAGE = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
STORAGE = {  # SOP classes of the scans that are read, by modality
    "CT": CT_STORAGE,
    "MR": (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage),
}

CLOSED = "it cannot be read as DICOM: check its permissions, or copy its series again."
DAMAGED = "it cannot be read as DICOM, it is damaged or cut short: copy its series again."


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
            tags = [*NUMBERS_OF_TAGS.values()]
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=tags)
            fault = find_pixel_fault(stream, dataset)
            slices = slices_of(file, dataset)
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
    return [replace(header, fault=header.fault or fault) for header in slices]


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


def skip_reason(header: SliceHeader, modalities: Sequence[str] = ("CT",)) -> str:
    """Returns why an object is not to be read, without patient data; empty when it is to be read.

    Args:
        header: of one of its slices.
        modalities: what is read: CT, MR or both.
    """
    name = UID(header.sop_class).name
    modality = header.modality if header.modality.isalpha() and len(header.modality) <= 16 else "unknown"
    wanted = " or ".join(modalities)
    if not header.sop_class:
        return ""
    if "Secondary Capture" in name:
        return "a secondary capture, not an original scan"
    kind = next((kind for kind in modalities if header.sop_class in STORAGE[kind]), None)
    if kind is None:
        image = name.endswith("Image Storage") and modality not in modalities
        return f"modality {modality}, not {wanted}" if image else f"SOP class {name}, not {wanted} Image Storage"
    if header.modality not in (kind, ""):
        return f"modality {modality}, not {wanted}"
    return "a localizer" if "LOCALIZER" in header.image_type else ""


def in_slice_order(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Sorts slices along the normal of the first one; by file name where a header lacks its position."""
    by_name = sorted(headers, key=lambda header: header.file)
    if any(len(header.orientation) != 6 or len(header.position) != 3 for header in headers):
        return by_name
    normal = slice_normal(by_name[0])
    return sorted(by_name, key=lambda header: float(np.dot(normal, header.position)))
