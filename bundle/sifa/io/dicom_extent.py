"""Checks that the pixel data of a DICOM file is all there, without reading a pixel."""

from __future__ import annotations

import math
import os
import struct
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

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

NO_PIXELS = "its voxels cannot be read, it is cut short before them: copy its series again."
PIXELS_CUT = "its voxels cannot be read, it is cut short or damaged within them: copy its series again."
PIXELS_LEFT = "its pixel data is longer than Rows, Columns, BitsAllocated and NumberOfFrames imply: export it again."


def find_pixel_fault(stream: BinaryIO, dataset: Dataset) -> str:
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
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    bits = int(dataset.get("SamplesPerPixel") or 1) * int(dataset.get("BitsAllocated") or 0)
    announced = math.ceil(frames * rows * columns * bits / 8) if syntax in UNCOMPRESSED else 0
    if min(length, size - stream.tell()) < (announced or max(length, 1)):
        return PIXELS_CUT
    spare = math.ceil(min(rows, columns) * bits / 8)  # bytes that are no row or column; some writers pad
    return PIXELS_LEFT if announced and length - announced >= spare else ""


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
