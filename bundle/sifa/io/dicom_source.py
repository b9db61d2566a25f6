"""The series that a DICOM object is made from: its headers, in the order of the mask's slices, and its references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import generate_uid

from sifa.utils.errors import InputError, first_line

MANUFACTURER = "SIFA bundle"
UTF_8 = "ISO_IR 192"
LONGEST = 64  # characters of DICOM's LO

TOLERANCE = 0.1  # voxels; scanners round positions; any other grid differs by more somewhere

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])  # DICOM counts to the left and posterior, affines to the right and anterior

# Without these an object could not refer to its series, or be placed in space.
REQUIRED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
)
# Elements of the file meta information with the same value by definition, used where the others were blanked.
STAND_INS = {"SOPClassUID": "MediaStorageSOPClassUID", "SOPInstanceUID": "MediaStorageSOPInstanceUID"}


def read_source(
    files: Iterable[Path | str], affine: npt.NDArray[np.float64], shape: Sequence[int]
) -> list[pydicom.Dataset]:
    """Returns the headers of a series in the order of a mask's slices, after checking that both have the same grid.

    Args:
        files: every file of the series, one a slice, in any order.
        affine: of the mask, (4, 4), voxel indices to mm, right, anterior and superior being positive.
        shape: of the mask: columns, rows, slices.

    Raises:
        InputError: when a file is not DICOM or lacks elements that an object refers to, or the mask is not on the grid
            of the series.
    """
    return _in_slice_order(_read_headers(files), affine, shape)


def check_mask(voxels: npt.NDArray[Any], structures: Mapping[int, str]) -> None:
    """Refuses a mask that is not 3-D or holds other values than those of `structures`.

    Raises:
        InputError: with what is wrong.
    """
    if voxels.ndim != 3:
        raise InputError(f"the mask has the shape {voxels.shape}: DICOM objects take columns, rows and slices.")
    unknown = sorted(set(np.unique(voxels).tolist()) - {0, *structures})
    if unknown:
        raise InputError(f"the mask holds {unknown[0]:g}, which is not among the labels {sorted(structures)}.")


def long_string(text: str) -> str:
    """Returns `text` as a valid value of DICOM's LO."""
    return text.replace("\\", "/")[:LONGEST]


def make_item(**elements: Any) -> pydicom.Dataset:
    """Returns the item of a sequence with these elements, by keyword."""
    item = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def frame_of_reference(headers: Sequence[pydicom.Dataset]) -> str:
    """Returns the UID of a series' frame of reference; where it has none, one that is derived from the series' UID."""
    named = [header.FrameOfReferenceUID for header in headers if header.get("FrameOfReferenceUID")]
    return str(named[0] if named else generate_uid(entropy_srcs=[headers[0].SeriesInstanceUID]))


def _read_headers(files: Iterable[Path | str]) -> list[tuple[Path, pydicom.Dataset]]:
    """Returns each file of the series with its header."""
    headers: list[tuple[Path, pydicom.Dataset]] = []
    for file in map(Path, files):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True)  # some lack the preamble
            for keyword, stand_in in STAND_INS.items():
                if not header.get(keyword) and stand_in in header.file_meta:
                    setattr(header, keyword, header.file_meta[stand_in].value)
            missing = [keyword for keyword in REQUIRED if not header.get(keyword)]
        except Exception as error:  # a damaged header fails in many ways
            raise InputError(f"{file} cannot be read as DICOM ({first_line(error)}): leave it out.") from error
        if missing:
            raise InputError(
                f"{file}: it lacks {' and '.join(missing)}, and a DICOM object has to name the study, the series "
                "and the slices that it was made from, and where they lie: export the series again, one file a slice, "
                "with new UIDs in place of those that de-identification takes away."
            )
        headers.append((file, header))
    if not headers:
        raise InputError("there is no DICOM file to tie an object to: name the files of the series.")
    first_file, first = headers[0]
    for file, other in headers:
        if other.SeriesInstanceUID != first.SeriesInstanceUID:
            raise InputError(f"{first_file} and {file} belong to different series: put each series in its own folder.")
    return headers


def _in_slice_order(
    headers: Sequence[tuple[Path, pydicom.Dataset]], affine: npt.NDArray[np.float64], shape: Sequence[int]
) -> list[pydicom.Dataset]:
    """Returns the headers in the order of the mask's slices, after checking that both have the same grid."""
    by_slice: dict[int, pydicom.Dataset] = {}
    for file, header in headers:
        columns, rows = int(header.Columns), int(header.Rows)
        if (columns, rows) != tuple(shape[:2]):
            raise InputError(
                f"{file} has {columns} columns and {rows} rows, the mask {shape[0]} and {shape[1]}: "
                "the mask was made from another scan."
            )
        indices = _voxel_indices(header, affine)
        number = round(indices[0, 2])
        expected = np.asarray([[0, 0, number], [columns - 1, 0, number], [0, rows - 1, number]])
        distance = np.abs(indices - expected).max()
        if not distance <= TOLERANCE:
            raise InputError(
                f"{file} does not lie on the grid of the mask ({distance:.2f} voxels off): the mask was made from "
                "another scan, or the series has a tilted gantry or uneven slices."
            )
        by_slice[number] = header
    if sorted(by_slice) != list(range(shape[2])) or len(headers) != shape[2]:
        raise InputError(
            f"{headers[0][0].parent} has {len(headers)} files at {len(by_slice)} positions, the mask {shape[2]} "
            "slices: keep every slice of one series in the folder, once, and nothing else."
        )
    return [by_slice[number] for number in range(shape[2])]


def _voxel_indices(header: pydicom.Dataset, affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns where the first pixel of a slice, the last of its row and the last of its column lie in the mask."""
    origin = np.asarray(header.ImagePositionPatient, dtype=np.float64)
    along_row, along_column = np.asarray(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = map(float, header.PixelSpacing)
    corners = np.stack(
        [
            origin,
            origin + along_row * between_columns * (int(header.Columns) - 1),
            origin + along_column * between_rows * (int(header.Rows) - 1),
        ]
    )
    return (corners * LPS_TO_RAS - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
