"""All metrics of one case: of each structure in a predicted and a true label map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import compute_confusion_matrix_metric, compute_dice, compute_iou, get_confusion_matrix
from scipy.ndimage import find_objects

from sifa.metrics import metric_list as names
from sifa.metrics.surface_distances import (
    find_surfaces,
    hausdorff_95,
    mean_of_directed_means,
    measure_distances,
    surface_dice,
)

LabelMap = npt.NDArray[np.integer]
Box = tuple[slice, ...]

NAN = float("nan")
LARGEST_VALUE = np.iinfo(np.uint16).max  # of a label


def measure_case(
    pred: LabelMap, truth: LabelMap, values: Sequence[int], spacing: Sequence[float], tolerance_mm: float
) -> dict[str, list[float]]:
    """Returns the metrics of a case, each with a value for each structure, NaN where it is not available.

    Args:
        pred: label map (X, Y, Z) of the program under test; its values are at most `LARGEST_VALUE`.
        truth: label map of that shape.
        values: the label values of the structures.
        spacing: voxel size in mm.
        tolerance_mm: of the normalized surface Dice.
    """
    boxes = bounding_boxes(pred, truth, values)
    measured = [
        measure_structure(pred[box] == value, truth[box] == value, spacing, tolerance_mm)
        for value, box in zip(values, boxes, strict=True)
    ]
    return {name: [structure[name] for structure in measured] for name in measured[0]}


def bounding_boxes(pred: LabelMap, truth: LabelMap, values: Sequence[int]) -> list[Box]:
    """Returns the bounding box of each structure's union in both label maps; an empty box where both lack it.

    Nothing outside of it changes a metric: beyond the box, as beyond the volume, is outside of both masks.
    """
    found = [find_objects(part.astype(np.uint16, copy=False), max_label=max(values)) for part in (pred, truth)]
    boxes = []
    for value in values:
        present = [objects[value - 1] for objects in found if objects[value - 1] is not None]
        axes = zip(*present, strict=True) if present else ((slice(0, 0),),) * pred.ndim
        boxes.append(tuple(slice(min(one.start for one in axis), max(one.stop for one in axis)) for axis in axes))
    return boxes


def measure_structure(
    pred: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], spacing: Sequence[float], tolerance_mm: float
) -> dict[str, float]:
    """Returns the metrics of one structure by name, NaN where a metric is not available.

    Where the truth lacks the structure, all metrics but precision and the volumes are not available. Where the
    prediction lacks it, Dice, IoU, NSD and recall are 0, and precision and the distances are not available.

    Args:
        pred: mask (X, Y, Z), cropped to the bounding box of the union or whole.
        truth: mask of that shape.
        spacing: voxel size in mm.
        tolerance_mm: of the normalized surface Dice.
    """
    masks = torch.as_tensor(pred), torch.as_tensor(truth)
    voxel_ml = float(np.prod(spacing)) / 1000
    predicted, true = (int(mask.sum()) for mask in masks)
    difference = predicted - true
    return {
        **_overlap(*masks),
        **_distances(*masks, spacing, tolerance_mm),
        names.VOLUME_DIFFERENCE_ML: difference * voxel_ml,
        names.VOLUME_DIFFERENCE_PERCENT: 100 * difference / true if true else NAN,
        names.PREDICTED_VOLUME: predicted * voxel_ml,
        names.TRUE_VOLUME: true * voxel_ml,
    }


def _overlap(pred: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    p, t = (mask.to(torch.uint8)[None, None] for mask in (pred, truth))  # (B, C, X, Y, Z), as MONAI has them
    confusion = get_confusion_matrix(p, t)
    shares = {
        names.DICE: compute_dice(p, t),  # NaN where the truth is empty, as is IoU
        names.IOU: compute_iou(p, t),
        names.PRECISION: compute_confusion_matrix_metric("precision", confusion),  # NaN where the prediction is empty
        names.RECALL: compute_confusion_matrix_metric("sensitivity", confusion),  # NaN where the truth is empty
    }
    return {name: 100 * float(share) for name, share in shares.items()}


def _distances(
    pred: torch.Tensor, truth: torch.Tensor, spacing: Sequence[float], tolerance_mm: float
) -> dict[str, float]:
    if not pred.any() or not truth.any():
        nothing_found = 0.0 if truth.any() else NAN
        return {names.ASSD_VOXELS: NAN, names.ASSD_MM: NAN, names.HD95: NAN, names.NSD: nothing_found}
    surfaces = find_surfaces(pred, truth, crop=False)
    millimeters = measure_distances(surfaces, spacing)
    voxels = measure_distances(surfaces)
    return {
        names.ASSD_VOXELS: mean_of_directed_means(voxels),
        names.ASSD_MM: mean_of_directed_means(millimeters),
        names.HD95: hausdorff_95(millimeters),
        names.NSD: 100 * surface_dice(millimeters, tolerance_mm),
    }
