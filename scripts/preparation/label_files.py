"""Reads labels of any kind onto the grid of their scan: files such as NIfTI, DICOM SEG and RTSTRUCT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from sifa.io.formats import is_nifti, suffix_of
from sifa.io.grids import TOLERANCE, Grid, grid_distance, require_equal_grids
from sifa.io.nifti_files import nifti_affine, open_nifti, require_numbers, without_trailing_ones
from sifa.io.scan_reader import load_label
from sifa.utils.errors import InputError

from preparation.contours import contour_masks, contour_names
from preparation.dicom import CONTOURS, kind_of
from preparation.segmentations import segment_masks, segment_names


class Label(NamedTuple):
    """A label on the grid of its scan."""

    voxels: npt.NDArray[np.int64]  # (X, Y, Z)
    is_file: bool  # whether its file can be used as it is


def has_names(path: Path) -> bool:
    """Returns whether a label names its structures, as DICOM does, instead of numbering them."""
    return suffix_of(path) == ""


def names_in(path: Path) -> list[str]:
    """Returns the names of the structures in a DICOM SEG or RTSTRUCT.

    Raises:
        InputError: when it cannot be read.
    """
    return contour_names(path) if kind_of(path) == CONTOURS else segment_names(path)


def read_named_label(path: Path, grid: Grid, classes: Mapping[str, int]) -> Label:
    """Returns the classes that a DICOM SEG or RTSTRUCT shows.

    Args:
        path: the object.
        grid: of its scan.
        classes: of each structure, by name in lower case; structures of class 0 are left out.

    Raises:
        InputError: when it cannot be read, lies on another grid, or two classes overlap.
    """
    wanted = {name for name, index in classes.items() if index != 0}
    read = contour_masks if kind_of(path) == CONTOURS else segment_masks
    voxels = np.zeros(grid.shape, dtype=np.int64)
    for name, mask in read(path, grid, wanted).items():
        taken = np.unique(voxels[mask & (voxels != 0) & (voxels != classes[name])])
        if taken.size:
            other = next(one for one, index in classes.items() if index == taken[0])
            raise InputError(
                f"{path}: {name} and {other} overlap: choose structures that do not in the label map, and give the "
                "others the class 0."
            )
        voxels[mask] = classes[name]
    return Label(voxels, is_file=False)


def read_label(path: Path, grid: Grid, image: Path) -> Label:
    """Returns the values of a label file; one stored in another orientation is turned to that of its scan.

    A fourth axis is taken as one of masks: of the background and the structures where each voxel belongs to exactly
    one, else of the structures alone.

    Args:
        path: NIfTI, NRRD or MetaImage.
        grid: of the scan.
        image: the scan, for messages.

    Raises:
        InputError: when it cannot be read, holds values that are not whole, overlapping masks, or lies on another grid.
    """
    masks = _read_masks(path) if is_nifti(path) else None
    voxels, affine = masks or load_label(path)
    if grid_distance(grid, Grid(voxels.shape, affine)) <= TOLERANCE:
        return Label(voxels, is_file=masks is None)
    turned, turned_affine = _turn(voxels, affine, grid)
    require_equal_grids(path, Grid(turned.shape, turned_affine), image, grid, "label", "image")
    return Label(turned, is_file=False)


def _turn(
    voxels: npt.NDArray[np.int64], affine: npt.NDArray[np.float64], grid: Grid
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Returns a label with its axes in the order and direction of a grid, and its affine."""
    found, wanted = nib.io_orientation(affine), nib.io_orientation(grid.affine)
    if np.isnan(found).any() or np.isnan(wanted).any():
        return voxels, affine
    turn = nib.orientations.ornt_transform(found, wanted)
    turned = nib.orientations.apply_orientation(voxels, turn)
    return turned, affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape)


def _read_masks(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]] | None:
    """Returns the values of a NIfTI file of masks along the last axis, and its affine; None for an ordinary label."""
    image = open_nifti(path)
    shape = without_trailing_ones(tuple(map(int, image.shape)))
    if len(shape) == 3:
        return None
    require_numbers(image, path)
    stored = np.asanyarray(image.dataobj).reshape(image.shape)
    masks = stored.reshape(*shape[:3], -1)
    if (len(shape) > 4 and max(shape[3:]) != masks.shape[-1]) or not np.isin(masks, (0, 1)).all():
        raise InputError(f"{path}: it has the shape {shape} and is no stack of masks of 0 and 1: convert it.")
    count = masks.sum(axis=-1, dtype=np.int64)
    is_complete = bool((count == 1).all())
    if count.max() > 1:
        raise InputError(f"{path}: its masks overlap in {int((count > 1).sum())} voxels: keep one structure a voxel.")
    voxels = masks.argmax(axis=-1) + (0 if is_complete else 1)
    return np.where(count > 0, voxels, 0), nifti_affine(image)
