"""Reads DICOM RTSTRUCT objects: the masks of their structures on the grid of a scan, filled slice by slice.

rt-utils, which does this with OpenCV, has had no release since January 2023; the contours are filled by scikit-image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from sifa.io.dicom_source import LPS_TO_RAS
from sifa.io.grids import Grid
from sifa.utils.errors import InputError, first_line
from skimage.measure import grid_points_in_poly

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OFF_SLICE = 0.25  # slices by which a contour may lie beside a slice
SNAP = 0.02  # voxels: a vertex this close to the center of a voxel is on it, but for rounding in the file
INSIDE = 1  # of the labels of scikit-image; larger ones are on the contour
LEAST_POINTS = 3  # of a contour
LEAST_SLICES = 4  # of a structure, from which on a regular pattern of empty slices is noticed


def contour_names(path: Path) -> list[str]:
    """Returns the names of the structures that have closed contours.

    Raises:
        InputError: when the file cannot be read.
    """
    return list(_read(path))


def contour_masks(path: Path, grid: Grid, wanted: Collection[str]) -> dict[str, npt.NDArray[np.bool_]]:
    """Returns the mask (X, Y, Z) of each structure.

    A voxel belongs to a structure if its center is inside the contours of its slice or on one of them. Contours within
    contours are holes, and contours within holes islands (the even-odd rule), which also holds for holes that are
    connected to the outer contour by a channel.

    Args:
        path: the object.
        grid: of the scan that was contoured.
        wanted: names of structures, in lower case.

    Raises:
        InputError: when the file cannot be read, contours do not lie on slices of the grid, or slices between
            contours have none.
    """
    structures = {name.casefold(): contours for name, contours in _read(path).items() if name.casefold() in wanted}
    to_voxels = np.linalg.inv(grid.affine)
    placed = {
        name: [(points * LPS_TO_RAS) @ to_voxels[:3, :3].T + to_voxels[:3, 3] for points in contours]
        for name, contours in structures.items()
    }
    everything = [points for contours in placed.values() for points in contours]
    if not everything:
        return {}
    axis = int(np.max([np.ptp(points, axis=0) for points in everything], axis=0).argmin())
    return {name: _fill(contours, axis, grid.shape, path, name) for name, contours in placed.items()}


def _read(path: Path) -> dict[str, list[npt.NDArray[np.float64]]]:
    """Returns the closed contours (N, 3) of each structure that has any, LPS in mm."""
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        names = {int(roi.ROINumber): str(roi.ROIName).strip() for roi in dataset.StructureSetROISequence}
        contours = defaultdict(list)
        for roi in dataset.get("ROIContourSequence", ()):
            for contour in roi.get("ContourSequence", ()):
                points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
                if contour.ContourGeometricType in CLOSED and len(points) >= LEAST_POINTS:
                    contours[names[int(roi.ReferencedROINumber)]].append(points)
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{path}: it cannot be read as RTSTRUCT ({first_line(error)}): export it again.") from error
    return dict(contours)


def _fill(
    contours: Sequence[npt.NDArray[np.float64]], axis: int, shape: tuple[int, ...], path: Path, name: str
) -> npt.NDArray[np.bool_]:
    """Returns the mask (X, Y, Z) of a structure.

    Args:
        contours: in indices of voxels, (N, 3).
        axis: of the grid across which the contours are planar.
        shape: of the grid.
        path: the file, for messages.
        name: of the structure, for messages.
    """
    mask = np.zeros(shape, dtype=bool)
    slices = np.moveaxis(mask, axis, 0)  # a view
    inside: dict[int, npt.NDArray[np.bool_]] = defaultdict(lambda: np.zeros(slices.shape[1:], dtype=bool))
    outline: dict[int, npt.NDArray[np.bool_]] = defaultdict(lambda: np.zeros(slices.shape[1:], dtype=bool))
    for points in contours:
        height = points[:, axis]
        number = round(float(height.mean()))
        if np.abs(height - number).max() > OFF_SLICE:
            raise InputError(
                f"{path}: a contour of {name} does not lie on a slice of its scan: give the series that was contoured."
            )
        if not 0 <= number < len(slices):
            raise InputError(f"{path}: a contour of {name} lies beyond the slices of its scan: copy the whole series.")
        labels = _points_in_polygon(np.delete(points, axis, axis=1), slices.shape[1:])
        inside[number] ^= labels == INSIDE
        outline[number] |= labels > INSIDE
    for number, area in inside.items():
        slices[number] = area | outline[number]
    _require_all_slices(sorted(inside), path, name)
    return mask


def _points_in_polygon(vertices: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Returns 0 for the voxels of a slice outside a polygon, 1 for those inside, and more for those on its outline."""
    centers = np.rint(vertices)
    snapped = np.where((np.abs(vertices - centers) <= SNAP).all(axis=1, keepdims=True), centers, vertices)
    first = np.maximum(np.floor(snapped.min(axis=0)).astype(int), 0)
    last = np.minimum(np.ceil(snapped.max(axis=0)).astype(int), np.array(shape) - 1)
    labels = np.zeros(shape, dtype=np.uint8)
    if (last >= first).all():
        box = tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))
        labels[box] = grid_points_in_poly(tuple(last - first + 1), snapped - first, binarize=False)
    return labels


def _require_all_slices(numbers: Sequence[int], path: Path, name: str) -> None:
    """Refuses a structure that was contoured on every second or third slice only."""
    gaps = np.diff(numbers)
    if len(numbers) >= LEAST_SLICES and np.median(gaps) > 1:
        raise InputError(
            f"{path}: {name} is contoured on every {int(np.median(gaps))}. slice only: interpolate the contours where "
            "they were drawn, and export them again."
        )
