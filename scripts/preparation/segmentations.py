"""Reads DICOM SEG objects: the masks of their segments on the grid of a scan."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from sifa.io.dicom_source import LPS_TO_RAS
from sifa.io.grids import TOLERANCE, Grid
from sifa.utils.errors import InputError, first_line


def segment_names(path: Path) -> list[str]:
    """Returns the names of the segments.

    Raises:
        InputError: when the file cannot be read.
    """
    return list(_names_by_number(_read(path, pixels=False)).values())


def segment_masks(path: Path, grid: Grid, wanted: Collection[str]) -> dict[str, npt.NDArray[np.bool_]]:
    """Returns the mask (X, Y, Z) of each segment; segments of the same name are one.

    Args:
        path: the object.
        grid: of the scan; every pixel of the object has to lie on one of its voxels, in any order and direction.
        wanted: names of segments, in lower case.

    Raises:
        InputError: when the file cannot be read, holds fractions, or lies on another grid.
    """
    dataset = _read(path, pixels=True)
    names = {number: name for number, name in _names_by_number(dataset).items() if name.casefold() in wanted}
    masks = {name.casefold(): np.zeros(grid.shape, dtype=bool) for name in names.values()}
    shared = dataset.get("SharedFunctionalGroupsSequence", [pydicom.Dataset()])[0]
    for pixels, groups in zip(_frames(dataset, path), dataset.PerFrameFunctionalGroupsSequence, strict=True):
        numbers = np.unique(pixels[pixels > 0]).tolist() if dataset.SegmentationType == "LABELMAP" else [None]
        for value in numbers:
            number = value if value is not None else _number_of(groups, shared)
            shown = pixels == value if value is not None else pixels > 0
            if number in names and shown.any():
                masks[names[number].casefold()][_voxels(shown, groups, shared, grid, path)] = True
    return masks


def _read(path: Path, pixels: bool) -> pydicom.Dataset:
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
        _names_by_number(dataset)
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{path}: it cannot be read as DICOM SEG ({first_line(error)}): export it again.") from error
    return dataset


def _names_by_number(dataset: pydicom.Dataset) -> dict[int, str]:
    names = {}
    for segment in dataset.SegmentSequence:
        code = segment.get("SegmentedPropertyTypeCodeSequence", [pydicom.Dataset()])[0]
        name = segment.get("SegmentLabel") or code.get("CodeMeaning") or f"segment {segment.SegmentNumber}"
        names[int(segment.SegmentNumber)] = str(name).strip()
    return names


def _frames(dataset: pydicom.Dataset, path: Path) -> npt.NDArray[Any]:
    """Returns the pixels (frames, rows, columns)."""
    try:
        frames = dataset.pixel_array
    except Exception as error:
        raise InputError(f"{path}: its pixels cannot be decoded ({first_line(error)}): export it again.") from error
    if dataset.SegmentationType == "FRACTIONAL" and not set(np.unique(frames)) <= {0, dataset.MaximumFractionalValue}:
        raise InputError(f"{path}: it holds fractions, not masks: export it as a binary segmentation.")
    return frames.reshape(-1, *frames.shape[-2:])


def _group(groups: pydicom.Dataset, shared: pydicom.Dataset, keyword: str) -> pydicom.Dataset:
    """Returns the item of a functional group: that of a frame, or that of all frames."""
    sequence = groups.get(keyword) or shared.get(keyword) or [pydicom.Dataset()]
    return sequence[0]


def _number_of(groups: pydicom.Dataset, shared: pydicom.Dataset) -> int:
    return int(_group(groups, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)


def _voxels(
    shown: npt.NDArray[np.bool_], groups: pydicom.Dataset, shared: pydicom.Dataset, grid: Grid, path: Path
) -> tuple[npt.NDArray[np.int64], ...]:
    """Returns the indices of the voxels at which the pixels of a frame lie."""
    try:
        origin = np.array(_group(groups, shared, "PlanePositionSequence").ImagePositionPatient, dtype=float)
        orientation = _group(groups, shared, "PlaneOrientationSequence").ImageOrientationPatient
        between_rows, between_columns = _group(groups, shared, "PixelMeasuresSequence").PixelSpacing
    except AttributeError as error:
        raise InputError(
            f"{path}: a frame lacks its position, orientation or pixel spacing: export it again."
        ) from error
    along_row, along_column = np.array(orientation, dtype=float).reshape(2, 3)
    to_voxels = np.linalg.inv(grid.affine)
    first = to_voxels[:3, :3] @ (origin * LPS_TO_RAS) + to_voxels[:3, 3]
    column_step = to_voxels[:3, :3] @ (along_row * float(between_columns) * LPS_TO_RAS)
    row_step = to_voxels[:3, :3] @ (along_column * float(between_rows) * LPS_TO_RAS)
    corners = np.array([[0, 0], [shown.shape[0] - 1, 0], [0, shown.shape[1] - 1]])
    exact = first + corners @ np.stack([row_step, column_step])
    rounded = np.rint(first) + corners @ np.rint(np.stack([row_step, column_step]))
    away = float(np.abs(exact - rounded).max())
    places = np.rint(first) + np.argwhere(shown) @ np.rint(np.stack([row_step, column_step]))
    if away > TOLERANCE or places.min() < 0 or (places >= np.array(grid.shape)).any():
        reason = f"{away:.2g} voxels away from it" if away > TOLERANCE else "beyond its borders"
        raise InputError(f"{path}: its grid is not that of its scan ({reason}): resample it to the grid of the scan.")
    return tuple(places.astype(np.int64).T)
