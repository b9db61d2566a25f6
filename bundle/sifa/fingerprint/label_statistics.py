"""Volumes and positions of structures in the training labels, and the share of them that slices leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from sifa.fingerprint.fingerprint import SpatialPrior, VolumeRange
from sifa.fingerprint.statistics import Triple, centered_extent, median_triple
from sifa.io.scan_reader import load_label
from sifa.postprocessing.connected_components import find_structures
from sifa.postprocessing.spatial_prior import Subject, measure_spatial_prior
from sifa.transforms.label_values import is_identity, map_labels
from sifa.transforms.slices import as_slices, middle_of_labels, slice_steps


class LabelStatistics(NamedTuple):
    """Statistics of the labels of all training subjects."""

    volumes: dict[str, VolumeRange]  # by name, among the subjects that show the structure
    spatial_prior: dict[str, SpatialPrior]  # see `sifa.postprocessing.spatial_prior.measure_spatial_prior`
    left_out: float  # share of the voxels of all structures that slices leave out, from 0 to 1
    extent: Triple  # mm along rows, columns and slices around the middle: the largest of all labels among the subjects
    boxes: dict[str, Triple]  # by name: sides in mm of the box around a structure, medians over subjects


def measure_labels(
    items: Sequence[Mapping[str, str]],
    labels: Mapping[int, str],
    label_map: Mapping[int, int],
    orientation: str,
    slice_extent: Sequence[float],
    around_labels: bool = False,
) -> LabelStatistics:
    """Measures the labels of training subjects.

    Args:
        items: each with the path of its `label`.
        labels: names by class; 0 is the background.
        label_map: class of each value that the labels hold.
        orientation: axis codes (nibabel) of rows, columns and slices, or `acquired`.
        slice_extent: extent in mm of a training slice, along rows and columns, around the middle of each volume.
        around_labels: whether slices lie around the middle of the labels instead.
    """
    subjects: list[Subject] = []
    labeled, shown = 0, 0
    extents: list[Triple] = []
    sides: dict[str, list[Triple]] = {}
    for item in items:
        values, affine = load_label(item["label"])
        classes = values if is_identity(label_map) else map_labels(values, label_map)
        found = find_structures(classes, set(labels) - {0}, affine)
        components = {value: structure.components for value, structure in found.items()}
        subjects.append(Subject(components, float(np.prod(nib.affines.voxel_sizes(affine)))))
        slices, steps = as_slices(classes[None], affine, orientation)[:, 0], slice_steps(affine, orientation).tolist()
        middles = middle_of_labels(slices) if around_labels else tuple((size - 1) / 2 for size in slices.shape[1:])
        rows, columns = map(_around, middles, steps[:2], slice_extent)
        labeled += int(np.count_nonzero(slices))
        shown += int(np.count_nonzero(slices[:, rows, columns]))
        marked = slices.transpose(1, 2, 0) > 0
        whole = box_sides(marked.astype(np.uint8), steps).get(1, (0.0, 0.0, 0.0))
        extents.append(whole if around_labels else centered_extent(marked, steps, 0))
        for value, box in box_sides(slices.transpose(1, 2, 0), steps).items():
            sides.setdefault(labels[value], []).append(box)
    volumes = {}
    for value, name in labels.items():
        ml = [
            float(subject.components[value].voxels.sum()) * subject.voxel_volume / 1000
            for subject in subjects
            if value in subject.components
        ]
        if ml:
            volumes[name] = VolumeRange(round(min(ml), 3), round(max(ml), 3))
    prior: dict[str, SpatialPrior] = {
        value: {"center": entry["center"], "radius_mm": entry["radius_mm"]}
        for value, entry in measure_spatial_prior(subjects).items()
    }
    rows_mm, columns_mm, slices_mm = (round(float(extent), 3) for extent in np.max(extents, axis=0, initial=0))
    boxes = {name: median_triple(sides[name]) for name in labels.values() if name in sides}
    left_out = (labeled - shown) / max(labeled, 1)
    return LabelStatistics(volumes, prior, left_out, (rows_mm, columns_mm, slices_mm), boxes)


def box_sides(mask: np.ndarray, spacing: Sequence[float]) -> dict[int, Triple]:
    """Returns the sides in mm of the box around each structure of a mask, by value.

    Args:
        mask: values of structures, integers, 0 is the background.
        spacing: mm between voxels along the axes of the mask.
    """
    found: dict[int, Triple] = {}
    for value, box in enumerate(ndimage.find_objects(mask), start=1):
        if box is not None:
            first, second, third = ((side.stop - side.start) * float(s) for side, s in zip(box, spacing, strict=True))
            found[value] = (first, second, third)
    return found


def _around(middle: float, step: float, extent: float) -> slice:
    """Returns the part of an axis that lies within `extent` mm around an index."""
    half = extent / 2 / step
    return slice(max(0, math.ceil(middle - half)), math.floor(middle + half) + 1)
