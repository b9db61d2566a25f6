"""Checks a scan before the network runs: its file before it is read, then its values and its grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from sifa.fingerprint.fingerprint import Domain, Fingerprint
from sifa.fingerprint.grid_warnings import TILTED
from sifa.fingerprint.modality import may_be_in_hu, shares_hu_window
from sifa.io.formats import header_and_voxels, is_nifti
from sifa.io.grids import TOLERANCE, Grid, check_affine, grid_distance
from sifa.io.itk_files import read_itk_header, require_volume
from sifa.io.nifti_files import mm_per_unit, open_nifti, require_numbers, without_trailing_ones
from sifa.transforms.hounsfield import is_surely_hu, not_hu_reason
from sifa.transforms.orientation import slice_turn, view_direction
from sifa.transforms.slice_continuity import alternation_reason
from sifa.transforms.slices import slice_steps
from sifa.utils.errors import InputError

LEAST_PIXELS = 8  # rows and columns of a slice
DISAGREEMENT = 0.01  # of voxel sizes within a header, as a share, beyond rounding
MOST_COMPRESSION = 1032  # bytes that deflate can make of one
FACTOR = 3.0  # ratio to the training's spacing or field of view beyond which there is a warning


def check_file(path: Path, fingerprint: Fingerprint) -> list[str]:
    """Refuses a scan file whose header shows that it cannot be segmented; no voxel is read.

    Args:
        path: the file: NIfTI, NRRD or MetaImage.
        fingerprint: what the network was trained on.

    Returns:
        One clause for each doubt about the grid.

    Raises:
        InputError: when its header cannot be read, or it holds fewer bytes than its header declares, has the wrong
            number of dimensions, voxels that are not one real number each, or no voxel size.
    """
    if not path.is_file():
        raise InputError("it is neither a file nor a folder: remove it.")  # reading a named pipe would wait forever
    channels = fingerprint.network.in_channels
    return _check_nifti(path, channels) if is_nifti(path) else _check_itk(path)


def _check_nifti(path: Path, channels: int) -> list[str]:
    image = open_nifti(path)
    header_file, voxels = header_and_voxels(path)
    with nib.openers.ImageOpener(str(header_file)) as stream:
        written = type(image.header).from_fileobj(stream, check=False)  # as it is, before nibabel corrects it
    dtype, shape = image.get_data_dtype(), without_trailing_ones(tuple(map(int, image.shape)))
    require_numbers(image, path)
    if len(shape) not in (3, 4):
        raise InputError(f"it has {len(shape)} dimensions, a scan has 3: convert or split it.")
    if shape[3:] != () and shape[3:] != (channels,):
        raise InputError(f"it has {shape[3]} channels (color or 4-D), not {channels}: convert or split it.")
    if min(shape) < 1:
        raise InputError(f"its header declares {' x '.join(map(str, shape))} voxels, so none: replace it.")
    held = voxels.stat().st_size * (MOST_COMPRESSION if voxels.name.lower().endswith(".gz") else 1)
    _check_size(shape, dtype.itemsize, held)
    return [*_length_unit_warnings(written), *_header_warnings(written), *_contradictions(image, shape)]


def _contradictions(image: nib.Nifti1Pair, shape: tuple[int, ...]) -> list[str]:
    """Returns a clause where sform and qform of a NIfTI header are both set and place the grid differently."""
    sform, qform = image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]
    if sform is None or qform is None or grid_distance(Grid(shape[:3], sform), Grid(shape[:3], qform)) <= TOLERANCE:
        return []
    return ["its sform and its qform place it differently; the sform is taken"]


def _check_itk(path: Path) -> list[str]:
    header = read_itk_header(path)
    require_volume(header)
    held = header_and_voxels(path)[1].stat().st_size * (MOST_COMPRESSION if header.is_compressed else 1)
    _check_size(header.shape, header.voxel_bytes, held)
    oriented = header.is_oriented
    return [] if oriented else ["its header does not give the orientation, so left and right may be swapped"]


def _check_size(shape: tuple[int, ...], voxel_bytes: int, held: int) -> None:
    """Refuses a header that declares more voxels than the file can hold.

    Args:
        shape: number of voxels along each axis.
        voxel_bytes: bytes of a voxel.
        held: the most bytes of voxels that the file can hold.
    """
    if math.prod(shape) * voxel_bytes > held:
        raise InputError(
            f"its header declares {' x '.join(map(str, shape))} voxels, which the file is too short to hold: it is cut "
            "short or its header is wrong; copy it again."
        )


def _length_unit_warnings(header: Any) -> list[str]:
    unit = mm_per_unit(header)
    return [] if unit == 1 else [f"its header counts in units of {unit:g} mm, which are taken as such"]


def _header_warnings(header: Any) -> list[str]:
    """Returns doubts about the position of the grid in a NIfTI header; refuses a header without a voxel size."""
    sizes = header["pixdim"][1:4]
    if header["sform_code"] > 0:  # which then is the affine
        steps = np.sqrt(np.square([header[f"srow_{axis}"][:3] for axis in "xyz"], dtype=float).sum(axis=0))
        alike = np.allclose(np.abs(sizes), steps, rtol=DISAGREEMENT)
        return [] if alike else ["its sform and its voxel sizes (pixdim) disagree; the sform is taken"]
    if not np.isfinite(sizes).all() or (sizes == 0).any():
        raise InputError("its header has no voxel size: write the true one into it.")
    warnings = []
    if (sizes < 0).any():
        warnings.append("its header has negative voxel sizes, which are taken as positive")
    if header["qform_code"] <= 0:
        warnings.append("its header has neither sform nor qform, so which side is left is a guess")
    return warnings


class Doubts(NamedTuple):
    """What is unusual about a scan: clauses."""

    unit: str  # about the unit of its intensities; empty: none
    others: list[str]

    @property
    def all(self) -> list[str]:
        """All clauses."""
        return [*([self.unit] if self.unit else []), *self.others]


def check_scan(volume: np.ndarray, affine: np.ndarray, fingerprint: Fingerprint) -> Doubts:
    """Refuses a scan that cannot be segmented and returns doubts about an unusual one.

    Args:
        volume: intensities (C, X, Y, Z).
        affine: of its grid, to RAS in mm.
        fingerprint: what the network was trained on.

    Returns:
        One clause for each doubt; none when the scan is like those of the training.

    Raises:
        InputError: when it has the wrong number of dimensions or channels, no voxels, NaN or infinite values, no
            contrast, too few pixels, or a grid that is singular, sheared or of implausible size.
    """
    channels = fingerprint.network.in_channels
    if volume.ndim != 4:
        raise InputError(f"it has {volume.ndim - 1} dimensions, a scan has 3: convert or split it.")
    if volume.shape[0] != channels:
        raise InputError(f"it has {volume.shape[0]} channels (color or 4-D), not {channels}: convert or split it.")
    if volume.size == 0:
        raise InputError("it holds no voxels: replace it.")
    _check_grid(volume, affine, fingerprint.orientation)
    lowest, highest = float(volume.min()), float(volume.max())  # NaN and infinite values show here
    if not np.isfinite([lowest, highest]).all():
        raise InputError("it holds NaN or infinite values: repair it.")
    if lowest == highest:
        raise InputError(f"every voxel is {lowest:g}: it is empty.")
    alternates = alternation_reason(volume[0])
    others = [*([alternates] if alternates else []), *_size_warnings(volume, affine, fingerprint)]
    others += _view_warnings(affine, fingerprint)
    return Doubts(_unit_doubt(volume, fingerprint.target), others)


def intensity_unit(target: Domain) -> str:
    """Returns the unit of a target's intensities as far as the fingerprint knows it: `HU`, or `arbitrary`."""
    in_hu = shares_hu_window(target.modality, target.intensity) and float(target.intensity["lower"]) < 0
    return "HU" if in_hu else "arbitrary"


def _check_grid(volume: np.ndarray, affine: np.ndarray, orientation: str) -> None:
    check_affine(affine)
    rows, columns, _ = (volume.shape[1 + int(axis)] for axis in np.argsort(slice_turn(affine, orientation)[:, 0]))
    if min(rows, columns) < LEAST_PIXELS:
        raise InputError(f"its slices have {rows} x {columns} pixels in the plane that is segmented: too few.")


def _unit_doubt(volume: np.ndarray, target: Domain) -> str:
    """Returns a clause where the values of a scan are in other units than those of the training, or an empty string."""
    if not may_be_in_hu(target.modality) and is_surely_hu(volume):
        return f"it is CT in HU, and the network was trained on {target.modality}"
    if not shares_hu_window(target.modality, target.intensity):
        return ""  # each volume sets its own window, so that units do not matter
    reason = not_hu_reason(volume)
    lower, upper = float(target.intensity["lower"]), float(target.intensity["upper"])
    if intensity_unit(target) == "HU":
        return reason and f"{reason}; the network was trained on {target.modality} in HU"
    if reason:
        return ""
    return f"it is in HU, and the network was trained on values of {lower:g} to {upper:g}, which are not HU"


def _size_warnings(volume: np.ndarray, affine: np.ndarray, fingerprint: Fingerprint) -> list[str]:
    steps = slice_steps(affine, fingerprint.orientation)
    sizes = np.array(sorted(np.array(volume.shape[1:]) * nib.affines.voxel_sizes(affine)))
    warnings = []
    pixel, trained = float(steps[:2].max()), float(np.max(fingerprint.spacing[:2]))
    if pixel > FACTOR * trained:
        warnings.append(f"its pixels of {pixel:.2g} mm are far coarser than the training's {trained:.2g} mm")
    fields = np.array(sorted(fingerprint.target.training.median_field_of_view))
    if (sizes > FACTOR * fields).any() or (sizes < fields / FACTOR).any():
        seen, known = (" x ".join(f"{size:.0f}" for size in triple) for triple in (sizes, fields))
        warnings.append(f"its field of view of {seen} mm is unlike the training's {known} mm")
    return warnings


def _view_warnings(affine: np.ndarray, fingerprint: Fingerprint) -> list[str]:
    """Returns a clause where the acquired slices of a scan look in another direction than those of the training."""
    if fingerprint.slice_view is None:
        return []
    cosine = float(view_direction(affine, fingerprint.orientation) @ fingerprint.slice_view)
    degrees = float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
    return [f"its slices are turned by {degrees:.0f} degrees from those of the training"] if degrees > TILTED else []
