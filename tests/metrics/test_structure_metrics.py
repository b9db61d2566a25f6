"""The metrics of a case against their formulas written out with NumPy and SciPy, and against MONAI's own classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from builders import Array
from monai.metrics import (
    ConfusionMatrixMetric,
    DiceMetric,
    HausdorffDistanceMetric,
    MeanIoU,
    SurfaceDiceMetric,
    SurfaceDistanceMetric,
)
from scipy import ndimage
from sifa.metrics.metric_list import metrics_at
from sifa.metrics.structure_metrics import LARGEST_VALUE, bounding_boxes, measure_case, measure_structure

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.3, 3.0), (5.0, 0.4, 0.4)]
TOLERANCE = 2.0


def blob(seed: int, share: float = 0.3, shape: tuple[int, ...] = (17, 14, 11)) -> Array:
    """Returns a random mask of lumps, `share` of all voxels, some of them at the border of the array."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return noise > np.quantile(noise, 1 - share)


def directed(start: Array, end: Array, spacing: Sequence[float] | None) -> Array:
    """Returns the distance of each surface voxel of one mask to the nearest one of the other, by a distance map."""

    def surface(mask: Array) -> Array:
        return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))

    return ndimage.distance_transform_edt(~surface(end), sampling=spacing)[surface(start)]


def restated(pred: Array, truth: Array, spacing: Sequence[float], tolerance: float = TOLERANCE) -> dict[str, float]:
    """Returns the metrics of two masks that are not empty, by their formulas."""
    both, either = (pred & truth).sum(), (pred | truth).sum()
    voxel_ml = math.prod(spacing) / 1000
    forth, back = directed(pred, truth, spacing), directed(truth, pred, spacing)
    voxels = directed(pred, truth, None), directed(truth, pred, None)
    near = (forth <= tolerance + 1e-4).sum() + (back <= tolerance + 1e-4).sum()
    return {
        "mean_dice": 200 * both / (pred.sum() + truth.sum()),
        "iou": 100 * both / either,
        "precision": 100 * both / pred.sum(),
        "recall": 100 * both / truth.sum(),
        "surface_distance_voxels": (voxels[0].mean() + voxels[1].mean()) / 2,
        "surface_distance_mm": (forth.mean() + back.mean()) / 2,
        "hd95_mm": max(np.percentile(forth, 95), np.percentile(back, 95)),
        "nsd": 100 * near / (len(forth) + len(back)),
        "volume_difference_ml": (int(pred.sum()) - int(truth.sum())) * voxel_ml,
        "volume_difference_percent": 100 * (int(pred.sum()) - int(truth.sum())) / truth.sum(),
        "predicted_volume_ml": pred.sum() * voxel_ml,
        "true_volume_ml": truth.sum() * voxel_ml,
    }


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("shares", [(0.3, 0.3), (0.05, 0.4), (0.9, 0.2)], ids=str)
def test_each_metric_is_its_formula(spacing: tuple[float, ...], shares: tuple[float, float]) -> None:
    for seed in range(3):
        pred, truth = blob(seed, shares[0]), blob(seed + 100, shares[1])

        measured = measure_structure(pred, truth, spacing, TOLERANCE)

        assert measured == pytest.approx(restated(pred, truth, spacing), rel=1e-5)
        assert set(measured) == set(metrics_at(TOLERANCE))


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_what_monai_has_is_what_monai_says(spacing: tuple[float, ...]) -> None:
    pred, truth = blob(1), blob(2, 0.2)
    p, t = (torch.as_tensor(np.stack([~mask, mask]))[None].float() for mask in (pred, truth))

    def monai(metric: Any, **options: Any) -> float:
        metric(p, t, **options)
        result = metric.aggregate()
        return float(result[0] if isinstance(result, list) else result)

    measured = measure_structure(pred, truth, spacing, TOLERANCE)

    assert measured["mean_dice"] == pytest.approx(100 * monai(DiceMetric(include_background=False)))
    assert measured["iou"] == pytest.approx(100 * monai(MeanIoU(include_background=False)))
    for name in ("precision", "recall"):
        assert measured[name] == pytest.approx(100 * monai(ConfusionMatrixMetric(False, metric_name=name)))
    hausdorff = HausdorffDistanceMetric(include_background=False, percentile=95)
    assert measured["hd95_mm"] == pytest.approx(monai(hausdorff, spacing=spacing))
    surface_dice = SurfaceDiceMetric([TOLERANCE + 1e-4], include_background=False)
    assert measured["nsd"] == pytest.approx(100 * monai(surface_dice, spacing=spacing))


def test_two_of_monais_options_are_other_numbers() -> None:
    """The documents say so: distances of both directions pooled, and surfaces by area as in DeepMind's package."""
    spacing = (1.0, 1.0, 2.0)
    pred, truth = blob(1, 0.05), blob(2, 0.4)
    p, t = (torch.as_tensor(np.stack([~mask, mask]))[None].float() for mask in (pred, truth))
    measured = measure_structure(pred, truth, spacing, TOLERANCE)

    pooled: Any = SurfaceDistanceMetric(include_background=False, symmetric=True)(p, t, spacing=spacing)
    areas: Any = SurfaceDiceMetric([TOLERANCE], include_background=False, use_subvoxels=True)(p, t, spacing=spacing)

    distances = np.concatenate([directed(pred, truth, spacing), directed(truth, pred, spacing)])
    assert float(pooled) == pytest.approx(distances.mean(), rel=1e-5)
    assert float(pooled) != pytest.approx(measured["surface_distance_mm"], rel=0.01)
    assert 100 * float(areas) != pytest.approx(measured["nsd"], rel=0.01)


def test_a_mask_is_perfect_on_itself() -> None:
    mask = blob(0)

    measured = measure_structure(mask, mask, (0.7, 1.3, 3.0), TOLERANCE)

    assert [measured[name] for name in ("mean_dice", "iou", "nsd", "precision", "recall")] == [100] * 5
    zero = ("surface_distance_mm", "surface_distance_voxels", "hd95_mm", "volume_difference_ml")
    assert [measured[name] for name in (*zero, "volume_difference_percent")] == [0] * 5


def test_swapping_masks_swaps_precision_and_recall_and_keeps_what_is_symmetric() -> None:
    pred, truth = blob(3), blob(4, 0.1)

    one, other = (measure_structure(*pair, (1.0, 2.0, 3.0), TOLERANCE) for pair in ((pred, truth), (truth, pred)))

    for name in ("mean_dice", "iou", "nsd", "surface_distance_mm", "surface_distance_voxels", "hd95_mm"):
        assert one[name] == pytest.approx(other[name])
    assert one["precision"] == pytest.approx(other["recall"])
    assert one["volume_difference_ml"] == pytest.approx(-other["volume_difference_ml"])


def test_hd95_is_that_of_the_worse_direction() -> None:
    # One voxel against a bar from 2 to 41 voxels away: 2 one way; the other way the 95th percentile of 2, 3, ..., 41.
    pred, truth = np.zeros((50, 3, 3), bool), np.zeros((50, 3, 3), bool)
    pred[0, 1, 1] = truth[2:42, 1, 1] = True

    measured = measure_structure(pred, truth, (1.0, 1.0, 1.0), TOLERANCE)

    assert measured["hd95_mm"] == pytest.approx(2 + 0.95 * 39)
    assert measured["nsd"] == pytest.approx(100 * 2 / 41)  # the voxel, and the bar's first one


NAN = math.nan
RULES = {  # where the prediction is empty, where the truth is, where both are
    "mean_dice": (0, NAN, NAN),
    "iou": (0, NAN, NAN),
    "nsd": (0, NAN, NAN),
    "recall": (0, NAN, NAN),
    "precision": (NAN, 0, NAN),
    "surface_distance_voxels": (NAN, NAN, NAN),
    "surface_distance_mm": (NAN, NAN, NAN),
    "hd95_mm": (NAN, NAN, NAN),
    "volume_difference_ml": (-0.016, 0.016, 0),
    "volume_difference_percent": (-100, NAN, NAN),
    "predicted_volume_ml": (0, 0.016, 0),
    "true_volume_ml": (0.016, 0, 0),
}


@pytest.mark.parametrize("place", [0, 1, 2], ids=["prediction", "truth", "both"])
def test_where_a_mask_is_empty_metrics_are_0_or_not_available_by_rule(place: int) -> None:
    empty, full = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    full[1:3, 1:3, 1:3] = True
    pred, truth = ((empty, full), (full, empty), (empty, empty))[place]

    whole = measure_structure(pred, truth, (1.0, 1.0, 2.0), TOLERANCE)
    cropped = measure_case(pred.astype(np.uint8), truth.astype(np.uint8), [1], (1.0, 1.0, 2.0), TOLERANCE)

    assert whole == pytest.approx({name: values[place] for name, values in RULES.items()}, nan_ok=True)
    assert {name: row[0] for name, row in cropped.items()} == pytest.approx(whole, nan_ok=True)


def test_rounding_in_a_header_does_not_decide_what_is_within_the_tolerance() -> None:
    pred, truth = np.zeros((12, 4, 4), bool), np.zeros((12, 4, 4), bool)
    pred[1:2], truth[4:5] = True, True

    for step in (0.7, float(np.float32(0.7)), 0.7000001, 0.6999999):
        assert measure_structure(pred, truth, (step, 1.0, 1.0), 2.1)["nsd"] == 100
    assert measure_structure(pred, truth, (0.7, 1.0, 1.0), 2.099)["nsd"] == 0


def test_a_case_measures_every_structure_as_if_it_were_alone() -> None:
    generator = np.random.default_rng(0)
    pred, truth = (generator.choice([0, 0, 0, 2, 5, LARGEST_VALUE], (9, 8, 7)).astype(np.int64) for _ in range(2))
    values = [2, 5, LARGEST_VALUE]

    measured = measure_case(pred, truth, values, (0.7, 1.3, 3.0), TOLERANCE)

    for column, value in enumerate(values):
        alone = measure_structure(pred == value, truth == value, (0.7, 1.3, 3.0), TOLERANCE)
        assert {name: row[column] for name, row in measured.items()} == pytest.approx(alone)


def test_the_empty_surroundings_of_a_structure_do_not_matter() -> None:
    pred, truth = blob(5).astype(np.uint8), blob(6).astype(np.uint8)
    padded = [np.pad(mask, ((3, 0), (20, 7), (0, 11))) for mask in (pred, truth)]

    near = measure_case(pred, truth, [1], (0.7, 1.3, 3.0), TOLERANCE)
    far = measure_case(padded[0], padded[1], [1], (0.7, 1.3, 3.0), TOLERANCE)

    assert all(near[name] == pytest.approx(row) for name, row in far.items())


def test_the_box_of_a_structure_holds_both_masks_and_no_more() -> None:
    pred, truth = np.zeros((9, 9, 9), np.uint8), np.zeros((9, 9, 9), np.uint8)
    pred[2, 3, 4], truth[5, 3, 1] = 7, 7

    box, absent = bounding_boxes(pred, truth, [7, 8])

    assert box == (slice(2, 6), slice(3, 4), slice(1, 5))
    assert pred[absent].size == 0


def test_every_voxel_of_a_single_slice_is_surface() -> None:
    pred, truth = blob(7, shape=(17, 14, 1)), blob(8, shape=(17, 14, 1))

    measured = measure_structure(pred, truth, (1.0, 1.0, 1.0), TOLERANCE)

    assert measured == pytest.approx(restated(pred, truth, (1.0, 1.0, 1.0)), rel=1e-5)
    assert len(directed(pred, truth, None)) == pred.sum()
