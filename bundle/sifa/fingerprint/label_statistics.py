"""What the labels of training subjects mark: how much of each structure, where, and how much slices leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from sifa.io.nifti_reader import load_nifti
from sifa.postprocessing.connected_components import find_structures
from sifa.postprocessing.spatial_prior import Subject, measure_arrangement
from sifa.transforms.slices import as_slices, slice_steps


class LabelStatistics(NamedTuple):
    """Of all training subjects."""

    volumes: dict[str, dict[str, float]]  # ml, by structure: `min` and `max` among the subjects that show it
    arrangement: dict[str, dict[str, Any]]  # see `sifa.postprocessing.spatial_prior.measure_arrangement`
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
    subjects: list[Subject] = []
    marked, shown = 0, 0
    for item in items:
        label = load_nifti(item["label"])
        values = np.asanyarray(label.dataobj).astype(np.int64)
        found = find_structures(values, set(labels) - {0}, label.affine)
        pieces = {value: structure.pieces for value, structure in found.items()}
        subjects.append(Subject(pieces, float(np.prod(nib.affines.voxel_sizes(label.affine)))))
        slices, steps = as_slices(values[None], label.affine, axcodes)[:, 0], slice_steps(label.affine, axcodes)
        rows, columns = map(_middle, slices.shape[1:], steps[:2], slice_extent)
        marked += int(np.count_nonzero(slices))
        shown += int(np.count_nonzero(slices[:, rows, columns]))
    volumes = {}
    for value, name in labels.items():
        ml = [
            float(subject.pieces[value].voxels.sum()) * subject.voxel_volume / 1000
            for subject in subjects
            if value in subject.pieces
        ]
        if ml:
            volumes[name] = {"min": round(min(ml), 3), "max": round(max(ml), 3)}
    return LabelStatistics(volumes, measure_arrangement(subjects), (marked - shown) / max(marked, 1))


def _middle(size: int, step: float, extent: float) -> slice:
    """Returns the part of an axis that lies within `extent` mm around its middle."""
    middle, half = (size - 1) / 2, extent / 2 / step
    return slice(max(0, math.ceil(middle - half)), math.floor(middle + half) + 1)
