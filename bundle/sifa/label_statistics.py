"""What the labels of training subjects mark: how much of each structure, and how much of it slices leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import nibabel as nib
import numpy as np

from sifa.nifti import load_nifti


class LabelStatistics(NamedTuple):
    """Of all training subjects."""

    extent: float  # mm across the slices that structures fill, the most of all subjects
    volumes: dict[str, dict[str, float]]  # ml, by structure: `min` and `max` among the subjects that show it
    left_out: float  # share of the voxels of all structures that slices leave out, from 0 to 1


def measure_labels(
    items: Sequence[Mapping[str, str]], labels: Mapping[int, str], axcodes: str, slice_extent: Sequence[float]
) -> LabelStatistics:
    """Measures the labels of training subjects.

    Args:
        items: each with the path of its `label`.
        labels: names by value; 0 is the background.
        axcodes: axis codes (nibabel) of rows, columns and slices.
        slice_extent: mm along rows and columns that a training slice shows, around the middle of each volume.
    """
    found: dict[str, list[float]] = {name: [] for value, name in labels.items() if value > 0}
    marked, shown, extent = 0, 0, 0.0
    for item in items:
        label = load_nifti(item["label"])
        voxel_ml = float(np.prod(nib.affines.voxel_sizes(label.affine))) / 1000
        values = np.asanyarray(label.dataobj).astype(np.int64)
        counts = np.bincount(values.ravel(), minlength=len(labels))
        for value, name in labels.items():
            if value > 0 and counts[value] > 0:
                found[name].append(float(counts[value]) * voxel_ml)
        extent = max(extent, _extent(label, values, axcodes))
        marked += int(np.count_nonzero(values))
        shown += int(np.count_nonzero(values[_window(label, axcodes, slice_extent)]))
    volumes = {
        name: {"min": round(min(volumes), 3), "max": round(max(volumes), 3)}
        for name, volumes in found.items()
        if volumes
    }
    return LabelStatistics(extent, volumes, (marked - shown) / max(marked, 1))


def _stored_axes(image: nib.Nifti1Image, axcodes: str) -> list[int]:
    """Returns which axes of a volume, as it is stored, rows, columns and slices lie along."""
    axes = nib.orientations.io_orientation(image.affine)[:, 0].tolist()  # of the patient, by stored axis
    return [axes.index(axis) for axis in nib.orientations.axcodes2ornt(tuple(axcodes))[:, 0].tolist()]


def _extent(image: nib.Nifti1Image, values: np.ndarray, axcodes: str) -> float:
    """Returns the mm across the slices that what is marked fills."""
    axis = _stored_axes(image, axcodes)[2]
    marked = np.flatnonzero(values.any(axis=tuple({0, 1, 2} - {axis})))
    slices = int(marked[-1] - marked[0] + 1) if len(marked) else 0
    return slices * float(nib.affines.voxel_sizes(image.affine)[axis])


def _window(image: nib.Nifti1Image, axcodes: str, extent: Sequence[float]) -> tuple[slice, ...]:
    """Returns the part of a volume, in its own order, that lies in slices of this extent in mm."""
    steps = nib.affines.voxel_sizes(image.affine)
    window = [slice(None)] * 3
    for stored, length in zip(_stored_axes(image, axcodes)[:2], extent, strict=True):
        middle, half = (image.shape[stored] - 1) / 2, length / 2 / steps[stored]
        window[stored] = slice(max(0, math.ceil(middle - half)), math.floor(middle + half) + 1)
    return tuple(window)
