"""Intensities and extent of a structure in the scan that it was segmented in, measured a few slices at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

SLICES = 16  # compared and converted to float64 at once


class Measurements(NamedTuple):
    """What is measured in the voxels of a structure."""

    mean: float  # of the scan's intensities
    sd: float  # standard deviation of the intensities over these voxels (population)
    extent_mm: tuple[float, float, float]  # along the patient's axes: left-right, anterior-posterior, superior-inferior


def measure_voxels(volume: np.ndarray, mask: np.ndarray, value: int, affine: np.ndarray) -> Measurements:
    """Measures the voxels of a structure.

    The extent along an axis of the patient reaches from the outermost side of one voxel to that of another, also where
    the grid is oblique.

    Args:
        volume: intensities (X, Y, Z), of the part of the scan that the structure lies in.
        mask: values of structures, of the same part.
        value: of the structure, which the part contains.
        affine: (4, 4), from indices to mm (RAS+); where the part lies does not matter.
    """
    axis = int(np.argmax(np.abs(mask.strides)))  # along which parts are contiguous in memory
    slabs, values = np.moveaxis(mask, axis, 0), np.moveaxis(volume, axis, 0)
    to_patient = np.concatenate([affine[:3, axis : axis + 1], np.delete(affine[:3, :3], axis, axis=1)], axis=1)
    lowest, highest = np.full(3, np.inf), np.full(3, -np.inf)
    count, total, squares = 0, 0.0, 0.0
    reference = float(volume.flat[0])  # subtracted, so that large values lose no digits
    for start in range(0, len(slabs), SLICES):
        inside = slabs[start : start + SLICES] == value
        if not inside.any():
            continue
        intensities = values[start : start + SLICES][inside].astype(np.float64) - reference
        count += len(intensities)
        total += float(intensities.sum())
        squares += float(np.square(intensities).sum())
        ends = to_patient @ (_ends_of_lines(inside) + np.array([[start], [0], [0]]))
        lowest, highest = np.minimum(lowest, ends.min(axis=1)), np.maximum(highest, ends.max(axis=1))
    mean = total / count
    left_right, front_back, up_down = highest - lowest + np.abs(affine[:3, :3]).sum(axis=1)
    sd = math.sqrt(max(0.0, squares / count - mean**2))
    return Measurements(reference + mean, sd, (float(left_right), float(front_back), float(up_down)))


def _ends_of_lines(inside: np.ndarray) -> np.ndarray:
    """Returns indices (3, N) of the first and the last voxel of each line along the last axis that has any.

    A linear function of the indices takes its extremes over all voxels in these.
    """
    rows, columns = np.nonzero(inside.any(axis=2))
    lines = inside[rows, columns]
    first, last = lines.argmax(axis=1), lines.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
    return np.stack([np.tile(rows, 2), np.tile(columns, 2), np.concatenate([first, last])])
