"""Pixels of DICOM files: slope times stored value plus intercept (HU in CT), whatever the file says about display."""

from __future__ import annotations

import filecmp
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import itk
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from sifa.io.dicom_headers import STORAGE
from sifa.io.dicom_slice import SliceHeader
from sifa.utils.errors import InputError

GRAYSCALE = ("MONOCHROME1", "MONOCHROME2", "")  # photometric interpretations; the first is shown inverted
FORMAT_TAGS = ["Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"]
SIZES = (8, 16, 32)  # BitsAllocated that are read
# RescaleType of HU, or where it says nothing; others are optical density, effective atomic number, iodine maps ...
MAY_BE_HU = ("", "HU", "HU_MOD", "US")


def check_pixels(header: SliceHeader) -> None:
    """Checks that the values of a slice can be read, and those of CT are HU as far as its header tells.

    Raises:
        InputError: when an element is missing, the pixels are colors or are stored in an unusual way, the scale is
            useless, or the values are another quantity.
    """
    pixels, (slope, intercept) = header.pixels, header.rescale
    needed = {
        "Rows": header.size[0] or None,
        "Columns": header.size[1] or None,
        "BitsAllocated": pixels.allocated,
        "BitsStored": pixels.stored,
        "HighBit": pixels.high_bit,
        "PixelRepresentation": pixels.signed,
    }
    missing = [keyword for keyword, value in needed.items() if value is None]
    if missing:
        raise InputError(
            f"{header.file}: it lacks {' and '.join(missing)}, so its pixels cannot be read: export its series again."
        )
    if pixels.photometric not in GRAYSCALE or pixels.samples != 1:
        raise InputError(f"{header.file}: it is a color image: export the original CT series.")
    allocated, stored, high_bit = (number or 0 for number in (pixels.allocated, pixels.stored, pixels.high_bit))
    if allocated not in SIZES or not 0 < stored <= allocated or high_bit != stored - 1 or pixels.signed not in (0, 1):
        raise InputError(
            f"{header.file}: its BitsAllocated, BitsStored, HighBit and PixelRepresentation do not describe pixels of "
            "8, 16 or 32 bits: export its series again."
        )
    if header.lookup_table:
        raise InputError(
            f"{header.file}: it maps its values with a lookup table (ModalityLUTSequence), not to HU: export the "
            "original CT series."
        )
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        raise InputError(
            f"{header.file}: its RescaleSlope is zero, or its RescaleSlope or RescaleIntercept is not finite: export "
            "its series again."
        )
    if header.rescale_type not in MAY_BE_HU and header.sop_class not in STORAGE["MR"]:
        raise InputError(f"{header.file}: its RescaleType is {header.rescale_type}, not HU: export a CT in HU.")


def read_hu(headers: Sequence[SliceHeader]) -> Iterator[npt.NDArray[np.float32]]:
    """Yields the pixels (rows, columns) of slices in HU, in the given order.

    ITK inverts MONOCHROME1, gives all frames of a file the same slope, and may take another one than the header has. It
    decodes such files, but HU is computed here.

    Args:
        headers: slices of the same file, checked by `check_pixels`.

    Raises:
        InputError: when the file has another size than its header announces, or cannot be decoded.
    """
    first = headers[0]
    size = (first.frames, *first.size)
    plain = first.sop_class in (CTImageStorage, MRImageStorage) and first.frames == 1
    if plain and first.pixels.photometric != "MONOCHROME1":
        image, rescale = _decode(first.file, first.file, size)
        if rescale == first.rescale:
            yield itk.array_view_from_image(image)[0]
            return
    with tempfile.TemporaryDirectory(prefix="sifa-pixels-") as folder:
        copy = Path(folder) / "pixels.dcm"
        with named(first.file):
            _copy_pixels(first.file, copy)
        image, _ = _decode(copy, first.file, size)
    frames = itk.array_view_from_image(image)
    for header in headers:
        slope, intercept = header.rescale
        yield (frames[header.frame].astype(np.float64) * slope + intercept).astype(np.float32)


def have_same_pixels(headers: Sequence[SliceHeader], others: Sequence[SliceHeader]) -> bool:
    """Returns whether the slices of two files, with equal headers, have the same values."""
    if filecmp.cmp(headers[0].file, others[0].file, shallow=False):
        return True
    return all(np.array_equal(one, other) for one, other in zip(read_hu(headers), read_hu(others), strict=True))


def open_file(file: Path) -> tuple[Any, Any]:
    """Returns ITK's reader of a file and its decoder."""
    decoder = itk.GDCMImageIO.New()
    return itk.ImageFileReader[itk.Image[itk.F, 3]].New(FileName=str(file), ImageIO=decoder), decoder


def _decode(path: Path, file: Path, size: tuple[int, int, int]) -> tuple[Any, tuple[float, float]]:
    """Returns the pixels of a file as ITK scales them, and the slope and the intercept that it took for that.

    The pixels are an ITK image of float32, its axes columns, rows and frames.

    Args:
        path: the file, or a copy of it.
        file: the file to name in messages.
        size: frames, rows and columns that its header announces.
    """
    reader, decoder = open_file(path)
    with named(file):
        reader.Update()
    image = reader.GetOutput()
    if decoder.GetNumberOfComponents() != 1:
        raise InputError(f"{file}: it is a color image: export the original CT series.")
    if tuple(itk.size(image))[::-1] != size:
        raise InputError(f"{file}: its number of pixels does not match its header: copy it again.")
    return image, (decoder.GetRescaleSlope(), decoder.GetRescaleIntercept())


def _copy_pixels(file: Path, target: Path) -> None:
    """Writes the pixels of a file as they are stored to a plain CT image with a slope of 1 and without any text."""
    source = pydicom.dcmread(file, force=True, specific_tags=[*FORMAT_TAGS, "NumberOfFrames", "PixelData"])
    copy, meta = Dataset(), FileMetaDataset()
    for element in source:
        copy.add(element)
    copy.SOPClassUID = meta.MediaStorageSOPClassUID = CTImageStorage
    copy.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    copy.PhotometricInterpretation, copy.RescaleSlope, copy.RescaleIntercept = "MONOCHROME2", 1, 0
    meta.TransferSyntaxUID = source.file_meta.get("TransferSyntaxUID")
    if meta.TransferSyntaxUID is None or not meta.TransferSyntaxUID.is_compressed:
        _, is_little_endian = source.original_encoding
        meta.TransferSyntaxUID = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
        copy["PixelData"].VR = "OW" if source.BitsAllocated > 8 else "OB"
    copy.file_meta = meta
    copy.save_as(target, enforce_file_format=True)


@contextmanager
def named(file: Path) -> Iterator[None]:
    """Turns an error of ITK or pydicom into an `InputError` that names the file."""
    try:
        yield
    except Exception as error:
        raise InputError(
            f"{file}: its pixels cannot be decoded: it is damaged, or compressed in a way that ITK does not know; copy "
            "it again or export it uncompressed."
        ) from error
