"""Writes masks and other maps of a scan as NIfTI in the scan's own grid, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.openers import ImageOpener

from sifa.io.formats import is_nifti
from sifa.io.nifti_files import open_nifti, unit_quaternion
from sifa.utils.files import temporary_beside

SLICES, ROWS = 64, 16  # of a block that is turned at once
# Header fields that place a NIfTI grid in space. No other field of a scan is copied: its texts may name the patient.
GRID_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def write_mask(
    labels: np.ndarray, scan: Path | None, affine: np.ndarray, path: Path, slope: float | None = None
) -> None:
    """Writes a mask, or another map of the scan.

    Args:
        labels: (X, Y, Z) uint8 or int16, in the scan's own order; a map may have several volumes, (X, Y, Z, volumes).
        scan: the scan; sform, qform, their codes and the units of a NIfTI file are copied bit by bit, except for a
            quaternion that is too long by rounding.
        affine: of the scan's grid, to RAS in mm; used where the scan is not NIfTI, or None.
        path: the `.nii.gz` to write; its folder is created.
        slope: factor that readers multiply the stored values by; None for labels.
    """
    if scan is None or not is_nifti(scan):
        mask = nib.Nifti1Image(labels, affine)
        mask.header.set_xyzt_units("mm")
        mask.set_qform(affine, code=1)
        mask.set_sform(affine, code=1)
    else:
        source = open_nifti(scan).header
        kind = nib.Nifti2Image if isinstance(source, nib.Nifti2Header) else nib.Nifti1Image
        header = kind.header_class()
        header.set_data_dtype(labels.dtype)
        for field in GRID_FIELDS:
            header[field] = source[field]
        for part, value in zip("bcd", unit_quaternion(source), strict=True):
            header[f"quatern_{part}"] = value
        mask = kind(labels, None, header)
    if labels.ndim > 3:
        mask.header["pixdim"][4] = 1  # which a scan of three dimensions need not have
    mask.update_header()
    mask.header.set_slope_inter(1 if slope is None else slope, 0)
    with temporary_beside(path) as temporary, ImageOpener(str(temporary), "wb") as stream:
        mask.header.write_to(stream)
        for slab in _in_file_order(labels):
            stream.write(slab)


def _in_file_order(labels: np.ndarray) -> Iterator[bytes]:
    """Yields the voxels as a NIfTI file has them, the first axis fastest.

    Nibabel takes the slices of an array one by one. From the memory order of tensors that takes four times as long,
    since neighbors in a slice lie far apart in memory; blocks of slices and rows fit into the processor's cache.
    """
    for volume in labels[None] if labels.ndim == 3 else np.moveaxis(labels, 3, 0):
        for start in range(0, volume.shape[2], SLICES):
            part = volume[..., start : start + SLICES]
            turned = np.empty(part.shape[::-1], labels.dtype)
            for row in range(0, len(part), ROWS):
                turned[..., row : row + ROWS] = part[row : row + ROWS].T
            yield turned.tobytes()
