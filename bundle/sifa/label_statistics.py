"""What the labels of training subjects mark: how much of each structure, and how much of it slices leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import nibabel as nib
import numpy as np

from sifa.nifti import load_nifti
from sifa.scan_slices import as_slices, slice_steps


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
        slices, steps = as_slices(values[None], label.affine, axcodes)[:, 0], slice_steps(label.affine, axcodes)
        rows, columns = map(_middle, slices.shape[1:], steps[:2], slice_extent)
        filled = np.flatnonzero(slices.any(axis=(1, 2)))
        extent = max(extent, float((np.ptp(filled) + 1) * steps[2]) if len(filled) else 0.0)
        marked += int(np.count_nonzero(slices))
        shown += int(np.count_nonzero(slices[:, rows, columns]))
    volumes = {
        name: {"min": round(min(volumes), 3), "max": round(max(volumes), 3)}
        for name, volumes in found.items()
        if volumes
    }
    return LabelStatistics(extent, volumes, (marked - shown) / max(marked, 1))


def _middle(size: int, step: float, extent: float) -> slice:
    """Returns the part of an axis that lies within `extent` mm around its middle."""
    middle, half = (size - 1) / 2, extent / 2 / step
    return slice(max(0, math.ceil(middle - half)), math.floor(middle + half) + 1)
