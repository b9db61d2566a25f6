"""Reads every scan and label once, before anything is written: what is wrong with them, and what they hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from sifa.fingerprint.modality import is_in_hu, may_be_in_hu
from sifa.io.formats import is_nifti
from sifa.io.grids import Grid, require_affine
from sifa.io.nifti_files import nifti_affine, open_nifti, require_numbers
from sifa.io.scan_reader import load_image
from sifa.transforms.hounsfield import is_surely_hu, not_hu_reason
from sifa.utils.errors import InputError, find_input_error, first_line, innermost

PERCENTILES = (0.5, 99.5)
VOLUME_AXES = 3


@dataclass(frozen=True)
class ImageFacts:
    """What was found in a scan."""

    grid: Grid
    digest: str  # of its size and its intensities; the same for copies in any file
    lower: float  # intensities at two percentiles
    upper: float
    unit_fault: str  # why its values contradict its modality, as a clause; empty where they do not

    @property
    def spacing(self) -> npt.NDArray[np.float64]:
        """Voxel sizes in mm along left-right, front-back and head-foot."""
        return self._along_patient(nib.affines.voxel_sizes(self.grid.affine))

    @property
    def size(self) -> npt.NDArray[np.float64]:
        """Number of voxels along left-right, front-back and head-foot."""
        return self._along_patient(np.array(self.grid.shape, dtype=float))

    def _along_patient(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        ordered = np.empty(3)
        ordered[nib.io_orientation(self.grid.affine)[:, 0].astype(int)] = values
        return ordered


def survey_image(path: Path, modality: str, channel: int | None = None) -> ImageFacts:
    """Reads a scan.

    Args:
        path: a file, or the folder of a DICOM series.
        modality: that it is said to be.
        channel: of a file with several.

    Raises:
        InputError: when training could not use it: it cannot be read, is no volume of one value a voxel, has no
            contrast, holds NaN or infinite values, or has a singular or sheared grid.
    """
    voxels, affine = read_channel(path, channel) if channel is not None else _read(path)
    if voxels.ndim != VOLUME_AXES:
        raise InputError(
            f"{path}: it has {voxels.ndim} dimensions, training takes 3-D volumes: convert it, or move it."
        )
    if not np.isfinite(voxels).all():
        raise InputError(f"{path}: it holds NaN or infinite values: repair it, or move it away.")
    lower, upper = (float(value) for value in np.percentile(voxels, PERCENTILES))
    if lower == upper:
        raise InputError(f"{path}: it has no contrast (its percentiles are equal): move it away.")
    require_affine(affine, path)
    digest = hashlib.sha256(repr(voxels.shape).encode() + np.ascontiguousarray(voxels, np.float32).data).hexdigest()
    return ImageFacts(Grid(voxels.shape, affine), digest, lower, upper, _unit_fault(voxels, modality))


def read_channel(path: Path, channel: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Returns a channel (X, Y, Z) of a NIfTI file whose fourth axis is that of the channels, and its affine in mm.

    Raises:
        InputError: when it cannot be read or has no such channel.
    """
    if not is_nifti(path):
        raise InputError(f"{path}: channels are read from NIfTI only: convert it.")
    image = open_nifti(path)
    require_numbers(image, path)
    if len(image.shape) != VOLUME_AXES + 1 or channel >= image.shape[3]:
        raise InputError(
            f"{path}: its shape {image.shape} has no channel {channel}: correct the channel, or move it away."
        )
    try:
        voxels = np.asarray(image.dataobj[..., channel], dtype=np.float32)
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{path}: its voxels cannot be read ({first_line(error)}): copy it again.") from error
    return voxels, nifti_affine(image)


def _read(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    try:
        image = load_image(path)
    except Exception as error:  # a damaged file fails in many ways
        found = find_input_error(error)
        if found is not None:
            raise InputError(f"{found}" if str(path) in str(found) else f"{path}: {found}") from error
        reason = first_line(innermost(error))
        raise InputError(f"{path}: it cannot be read as an image ({reason}): replace it, or move it away.") from error
    return image.numpy(), np.asarray(image.affine, dtype=np.float64)


def _unit_fault(voxels: npt.NDArray[np.float32], modality: str) -> str:
    if is_in_hu(modality):
        return not_hu_reason(voxels)
    return "its values are HU" if not may_be_in_hu(modality) and is_surely_hu(voxels) else ""


def require_units(path: Path, facts: ImageFacts, modality: str, domain: str) -> None:
    """Refuses a scan whose values contradict its modality.

    Args:
        path: the scan.
        facts: what was found in it.
        modality: of the domain.
        domain: source or target.

    Raises:
        InputError: when they do.
    """
    if facts.unit_fault:
        advice = (
            "convert it to HU (slope x stored value + intercept)"
            if is_in_hu(modality)
            else "exchange source and target"
        )
        raise InputError(
            f"{path}: {facts.unit_fault}, but the modality of the {domain} is {modality}: {advice}, correct it with "
            f"--{domain}_modality, or give --check_units False if its values are right."
        )
