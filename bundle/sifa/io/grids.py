"""Grids of scans and labels, read from their headers and compared in voxels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from sifa.io.formats import is_nifti, suffix_of
from sifa.io.itk_files import read_itk_header
from sifa.io.nifti_files import nifti_affine, open_nifti, without_trailing_ones
from sifa.io.scan_reader import load_image
from sifa.utils.errors import InputError

LARGEST_STEP = 25.0  # mm between voxels
SHEAR = 0.02  # cosine of the angle between two axes of a grid that counts as sheared (about 1 degree)
TOLERANCE = 0.1  # voxels by which two grids may differ and still count as one


@dataclass(frozen=True)
class Grid:
    """Number of voxels along each axis, and the affine to RAS in mm."""

    shape: tuple[int, ...]
    affine: npt.NDArray[np.float64]


def read_grid(path: Path | str) -> Grid:
    """Returns the grid on which a scan or a label is read; of NIfTI, NRRD and MetaImage only the header is read.

    Raises:
        InputError: when it cannot be read.
    """
    path = Path(path)
    if is_nifti(path):
        image = open_nifti(path)
        return Grid(without_trailing_ones(image.shape), nifti_affine(image))
    if suffix_of(path) and not path.is_dir():
        header = read_itk_header(path)
        return Grid(header.shape, header.affine)
    loaded = load_image(path)
    return Grid(tuple(loaded.shape), np.asarray(loaded.affine, dtype=np.float64))


def check_affine(affine: npt.NDArray[np.float64]) -> None:
    """Refuses an affine that places no regular grid of right angles.

    Args:
        affine: to RAS in mm.

    Raises:
        InputError: when it is singular, sheared, or of implausible voxel size; the sentence does not name the scan.
    """
    linear = affine[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(linear)) < 1e-9:
        raise InputError("its affine is singular or has no spacing: write the true voxel sizes into its header.")
    steps = nib.affines.voxel_sizes(affine)
    if steps.max() > LARGEST_STEP:
        raise InputError(f"its voxels are up to {steps.max():g} mm wide: correct the spacing in its header.")
    axes = linear / steps
    if np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR:
        raise InputError("its grid is sheared (gantry tilt): resample it to a grid of right angles.")
    if np.isnan(nib.io_orientation(affine)).any():
        raise InputError("its axes cannot be told apart: correct the affine in its header.")


def require_affine(affine: npt.NDArray[np.float64], path: str | Path) -> None:
    """Refuses the affine of a scan in a sentence that names its file; see `check_affine`."""
    try:
        check_affine(affine)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def grid_distance(one: Grid, other: Grid) -> float:
    """Returns the largest distance, in voxels of `one`, between the same corner voxel of two grids.

    It is infinite where their shapes differ or an affine is singular.
    """
    if one.shape != other.shape or len(one.shape) != 3 or not _is_regular(one) or not _is_regular(other):
        return float("inf")
    corners = np.array(list(product(*((0, max(size - 1, 1)) for size in one.shape))), dtype=float)
    places = corners @ other.affine[:3, :3].T + other.affine[:3, 3]
    found = (places - one.affine[:3, 3]) @ np.linalg.inv(one.affine[:3, :3]).T
    return float(np.abs(found - corners).max())


def require_same_grid(path: Path | str, reference: Path | str, kind: str, kind_of_reference: str) -> None:
    """Refuses a label or mask whose grid is not that of another file, to a tenth of a voxel.

    Args:
        path: the label or mask.
        reference: the file whose grid it must have.
        kind: what `path` is, for the message.
        kind_of_reference: what `reference` is.

    Raises:
        InputError: when shapes, positions, orientations or voxel sizes differ, or a header cannot be read.
    """
    require_equal_grids(path, read_grid(path), reference, read_grid(reference), kind, kind_of_reference)


def require_equal_grids(
    path: Path | str, grid: Grid, reference: Path | str, expected: Grid, kind: str, kind_of_reference: str
) -> None:
    """Refuses a label or mask whose grid is not another one, to a tenth of a voxel.

    Args:
        path: the label or mask, for the message.
        grid: its grid.
        reference: the file whose grid it must have, for the message.
        expected: that grid.
        kind: what `path` is, for the message.
        kind_of_reference: what `reference` is.

    Raises:
        InputError: when shapes, positions, orientations or voxel sizes differ.
    """
    advice = f"resample the {kind} to the {kind_of_reference}'s grid."
    if expected.shape != grid.shape:
        raise InputError(f"{path}: its shape {grid.shape} is not that of {reference}, {expected.shape}: {advice}")
    distance = grid_distance(expected, grid)
    if distance > TOLERANCE:
        raise InputError(
            f"{path}: its grid lies {distance:.2g} voxels away from that of {reference} (other orientation, position "
            f"or voxel size): {advice}"
        )


def _is_regular(grid: Grid) -> bool:
    return bool(np.isfinite(grid.affine).all()) and abs(np.linalg.det(grid.affine[:3, :3])) > 1e-12
