"""The surface distance against the definition of the paper's tables restated with SciPy, and as an engine's metric."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from builders import Array
from ignite.engine import Engine
from monai.data import MetaTensor
from scipy import ndimage
from sifa.handlers import SurfaceDistance
from sifa.handlers.surface_distance import average_surface_distance


def restated(pred: Array, truth: Array, spacing: tuple[float, ...] | None = None) -> float:
    """`medpy.metric.binary.assd` as the authors of SIFA ran it: the mean of the two directed means.

    medpy 0.5 pools the distances of both directions instead, so only versions before it can check these numbers.
    The surface of a mask are its voxels that erosion with the six neighbors takes away; beyond the array is background.
    """

    def surface(mask: Array) -> Array:
        return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))

    def directed(start: Array, end: Array) -> float:
        return float(ndimage.distance_transform_edt(~surface(end), sampling=spacing)[surface(start)].mean())

    return (directed(pred, truth) + directed(truth, pred)) / 2


def blob(seed: int, share: float = 0.3, shape: tuple[int, ...] = (17, 14, 11)) -> Array:
    """Returns a random mask of lumps, `share` of all voxels, some of them at the border of the array."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return noise > np.quantile(noise, 1 - share)


def cube(start: tuple[int, int, int], size: int = 5, shape: tuple[int, int, int] = (20, 20, 20)) -> Array:
    """Returns a mask that is a cube whose lowest corner is `start`."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(corner, corner + size) for corner in start)] = True
    return mask


def distance(pred: Array, truth: Array, spacing: tuple[float, ...] | None = None) -> float:
    """Returns the distance under test, of masks as arrays."""
    return average_surface_distance(torch.as_tensor(pred), torch.as_tensor(truth), spacing)


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0), (0.7, 1.3, 3.0), (5.0, 0.4, 0.4)], ids=str)
@pytest.mark.parametrize("shares", [(0.3, 0.3), (0.05, 0.4), (0.01, 0.01), (0.9, 0.2)], ids=str)
def test_the_distance_is_the_mean_of_the_two_directed_means(
    spacing: tuple[float, ...] | None, shares: tuple[float, float]
) -> None:
    for seed in range(3):
        pred, truth = blob(seed, shares[0]), blob(seed + 100, shares[1])

        assert distance(pred, truth, spacing) == pytest.approx(restated(pred, truth, spacing), rel=1e-5)


def test_the_same_holds_where_masks_touch_the_border_of_the_array() -> None:
    pred, truth = cube((0, 3, 15)), cube((15, 15, 0))
    filled = np.ones((20, 20, 20), bool)

    for first, second in ((pred, truth), (pred, filled), (filled, truth), (blob(1, 0.6), blob(2, 0.6))):
        assert distance(first, second, (1.0, 2.0, 3.0)) == pytest.approx(
            restated(first, second, (1.0, 2.0, 3.0)), rel=1e-5
        )


def test_the_distance_is_not_that_of_both_directions_pooled() -> None:
    # One voxel against a long bar: one distance one way, 15 the other. Pooled, the long way would count 15 times.
    pred, truth = cube((0, 0, 0), size=1), np.zeros((20, 20, 20), bool)
    truth[0, 0, 2:17] = True
    there, back = 2.0, float(np.mean(np.arange(2, 17)))

    assert distance(pred, truth) == pytest.approx((there + back) / 2)
    assert distance(pred, truth) != pytest.approx((there + 15 * back) / 16)


def test_the_distance_is_symmetric_and_0_for_identical_masks() -> None:
    pred, truth = blob(0), blob(1)

    assert distance(pred, truth, (1, 2, 3)) == pytest.approx(distance(truth, pred, (1, 2, 3)))
    assert distance(pred, pred, (1, 2, 3)) == 0
    assert distance(np.ones((4, 4, 4), bool), np.ones((4, 4, 4), bool)) == 0


def test_single_voxels_are_as_far_apart_as_their_centers() -> None:
    pred, truth = cube((2, 3, 4), size=1), cube((5, 7, 4), size=1)

    assert distance(pred, truth) == pytest.approx(5)
    assert distance(pred, truth, (2.0, 0.5, 9.0)) == pytest.approx(math.hypot(6, 2))


def test_a_shifted_cube_has_the_distance_counted_by_hand() -> None:
    # A 5-cube has 98 surface voxels. Shifted by one along an axis, each face across that axis has 25 voxels: the outer
    # one lies 1 outside of the twin's surface, the inner one's 9 inner voxels lie 1 inside of it; 64 are on it.
    expected = (25 + 9) / 98

    assert distance(cube((3, 3, 3)), cube((4, 3, 3))) == pytest.approx(expected)
    assert distance(cube((3, 3, 3)), cube((3, 3, 4)), (1, 1, 0.5)) == pytest.approx(expected / 2)
    assert distance(cube((0, 0, 0)), cube((0, 1, 0))) == pytest.approx(expected)


def test_an_empty_mask_has_no_distance() -> None:
    empty, full = np.zeros((5, 5, 5), bool), cube((1, 1, 1), size=2, shape=(5, 5, 5))

    assert math.isnan(distance(empty, full))
    assert math.isnan(distance(full, empty))
    assert math.isnan(distance(empty, empty))


def test_masks_may_be_numbers_instead_of_truth_values() -> None:
    pred, truth = blob(0), blob(1)

    assert distance(pred.astype(np.float32), truth.astype(np.uint8)) == distance(pred, truth)


# --- as a metric of an engine ---


def one_hot(*masks: Array, affine: Array | None = None) -> MetaTensor:
    """Returns background and `masks` as channels, with an affine."""
    background = ~np.any(masks, axis=0)
    channels = np.stack([background, *masks]).astype(np.float32)
    return MetaTensor(torch.as_tensor(channels), affine=torch.as_tensor(np.eye(4) if affine is None else affine))


def measured(batches: list[tuple[list[Any], list[Any]]], millimeters: bool) -> Any:
    """Returns the state of an engine whose outputs are `batches`, after one epoch."""
    engine = Engine(lambda engine, batch: batch)
    SurfaceDistance(millimeters=millimeters).attach(engine, "distance")
    return engine.run(batches)


def test_the_metric_measures_each_structure_of_each_volume_in_voxels_or_in_millimeters() -> None:
    volumes = [(blob(seed), blob(seed + 10), blob(seed + 20), blob(seed + 30)) for seed in range(3)]
    angle = np.deg2rad(30)  # an oblique scan with axes exchanged: voxels of 3, 0.5 and 1.5 mm
    turn = np.array([[0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)], [-1, 0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([3.0, 0.5, 1.5])
    affine[:3, 3] = (-30, 20, 100)
    # volumes of different shapes cannot be stacked; lists of them can be given, in batches of any size
    cut = [tuple(mask[: 17 - index] for mask in masks) for index, masks in enumerate(volumes)]
    items = [(one_hot(a, b, affine=affine), one_hot(c, d, affine=affine)) for a, b, c, d in cut]
    batches = [
        ([items[0][0], items[1][0]], [items[0][1], items[1][1]]),
        ([items[2][0]], [items[2][1]]),
    ]

    for millimeters, spacing in ((False, None), (True, (3.0, 0.5, 1.5))):
        state = measured(batches, millimeters)

        expected = np.array([[restated(a, c, spacing), restated(b, d, spacing)] for a, b, c, d in cut])
        assert state.metric_details["distance"].numpy() == pytest.approx(expected, rel=1e-4)
        assert state.metrics["distance"] == pytest.approx(expected.mean(), rel=1e-4)


def test_what_cannot_be_measured_is_nan_in_the_details_and_does_not_spoil_the_mean() -> None:
    empty = np.zeros_like(blob(0))
    truth = one_hot(blob(0), blob(1))
    batches = [([one_hot(empty, blob(2))], [truth]), ([one_hot(blob(3), empty)], [truth])]

    state = measured(batches, millimeters=False)

    details = state.metric_details["distance"].numpy()
    expected = [restated(blob(2), blob(1)), restated(blob(3), blob(0))]
    assert np.array_equal(np.isnan(details), [[True, False], [False, True]])
    assert [details[0, 1], details[1, 0]] == pytest.approx(expected, rel=1e-4)
    assert state.metrics["distance"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_each_epoch_is_measured_anew() -> None:
    engine = Engine(lambda engine, batch: batch)
    SurfaceDistance().attach(engine, "distance")
    near, far = one_hot(cube((3, 3, 3))), one_hot(cube((9, 3, 3)))
    engine.run([([near], [far])])

    state: Any = engine.run([([near], [near])])

    assert state.metrics["distance"] == 0
    assert state.metric_details["distance"].shape == (1, 1)


def test_millimeters_need_a_prediction_that_knows_its_affine() -> None:
    plain = one_hot(cube((3, 3, 3))).as_tensor()

    with pytest.raises(ValueError, match="affine"):
        measured([([plain], [plain])], millimeters=True)
    assert measured([([plain], [plain])], millimeters=False).metrics["distance"] == 0
