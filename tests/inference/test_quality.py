"""Figures and flags of a mask: each from a mask made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import Array, make_fingerprint
from sifa.fingerprint.fingerprint import Fingerprint, VolumeRange
from sifa.inference.quality import MISFITS, measure
from sifa.inference.results import Segmentation

FINGERPRINT = make_fingerprint(labels={0: "background", 1: "liver", 2: "spleen"}, structures={})
AFFINE = np.diag([10.0, 10.0, 5.0, 1.0])  # voxels of 0.5 ml


def segmentation(mask: Array, confidence: float = 0.9, entropy: float = 0.2, dropped: int = 0) -> Segmentation:
    """Returns what the network would say when every pixel had the same confidence and entropy."""
    elsewhere = np.full(3, dropped)
    pixels = np.bincount(mask.ravel(), minlength=3).astype(float) * 4  # resampled: not as many as voxels
    return Segmentation(
        torch.from_numpy(mask), pixels, pixels * confidence, pixels * entropy, (-200.0, 300.0), elsewhere
    )


def box() -> Array:
    """Returns a mask whose structure 1 is a box of 24 voxels in the middle."""
    mask = np.zeros((12, 11, 10), np.uint8)
    mask[4:8, 4:7, 4:6] = 1
    return mask


def measured(mask: Array, fingerprint: Fingerprint = FINGERPRINT, **network: Any) -> dict[str, dict[str, Any]]:
    volume = np.full(mask.shape, 40, np.int16)
    return measure(segmentation(mask, **network), volume, AFFINE, "HU", fingerprint)


def liver(mask: Array, fingerprint: Fingerprint = FINGERPRINT, **network: Any) -> dict[str, Any]:
    return measured(mask, fingerprint, **network)["liver"]


def test_every_structure_but_the_background_is_measured() -> None:
    assert list(measured(box())) == ["liver", "spleen"]


def test_a_plain_structure_has_its_figures_and_no_flags() -> None:
    assert liver(box()) == {
        "value": 1,
        "volume_ml": 12.0,
        "mean": 40.0,
        "sd": 0.0,
        "unit": "HU",
        "extent_mm": [40.0, 30.0, 10.0],
        "touches_border": False,
        "components": 1,
        "confidence": 0.9,
        "entropy": 0.2,
        "flags": [],
    }


def test_an_absent_structure_is_empty() -> None:
    found = measured(box())["spleen"]
    nothing = dict.fromkeys(("mean", "sd", "extent_mm", "confidence", "entropy"))
    counts = {"value": 2, "volume_ml": 0.0, "components": 0}
    assert found == {**nothing, **counts, "unit": "HU", "touches_border": False, "flags": ["empty"]}


def test_a_mask_of_nothing_is_empty_throughout() -> None:
    found = measured(np.zeros((4, 4, 4), np.uint8))
    assert [entry["flags"] for entry in found.values()] == [["empty"], ["empty"]]


def test_structures_that_touch_each_other_are_measured_apart() -> None:
    mask = box()
    mask[8:10, 4:7, 4:6] = 2
    found = measured(mask)
    assert [entry["volume_ml"] for entry in found.values()] == [12.0, 6.0]
    assert [entry["components"] for entry in found.values()] == [1, 1]


def test_voxels_that_meet_at_a_corner_are_one_component() -> None:
    mask = box()
    mask[8, 7, 6] = 1
    assert liver(mask)["components"] == 1


@pytest.mark.parametrize(
    ("components", "flags"), [(4, []), (5, ["5 connected components"]), (6, ["6 connected components"])]
)
def test_many_components_are_flagged(components: int, flags: list[str]) -> None:
    mask = np.zeros((20, 5, 5), np.uint8)
    mask[2 : 2 + 2 * components : 2, 2, 2] = 1
    found = liver(mask)
    assert found["components"] == components
    assert found["flags"] == flags


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [0, -1])
def test_a_structure_at_the_border_is_flagged_on_each_of_its_six_sides(side: int, axis: int) -> None:
    mask = np.zeros((6, 7, 8), np.uint8)
    place: list[int] = [3, 3, 3]
    place[axis] = side
    mask[tuple(place)] = 1
    assert liver(mask)["flags"] == ["touches the border of the field of view"]


@pytest.mark.parametrize(("confidence", "flags"), [(0.6, []), (0.55, ["low confidence (0.55)"])])
def test_low_confidence_is_flagged(confidence: float, flags: list[str]) -> None:
    found = liver(box(), confidence=confidence)
    assert found["confidence"] == pytest.approx(confidence)
    assert found["flags"] == flags


def test_a_structure_that_the_network_never_saw_has_no_confidence() -> None:
    said = segmentation(box())
    said.pixels[:], said.confidence[:], said.entropy[:] = 0, 0, 0
    found = measure(said, np.zeros(said.labels.shape), AFFINE, "HU", FINGERPRINT)
    assert "low confidence (0.00)" in found["liver"]["flags"]


@pytest.mark.parametrize(
    ("least", "greatest", "odd"), [(8.0, 8.0, False), (18.0, 30.0, False), (18.1, 30.0, True), (1.0, 7.9, True)]
)
def test_a_volume_far_from_the_trainings_is_flagged(least: float, greatest: float, odd: bool) -> None:
    known = replace(FINGERPRINT, structures={"liver": VolumeRange(least, greatest)})
    assert bool(liver(box(), known)["flags"]) == odd


def test_the_range_is_told_in_ml() -> None:
    known = replace(FINGERPRINT, structures={"liver": VolumeRange(900.0, 2100.0)})
    assert liver(box(), known)["flags"] == ["volume outside the training's range of 900 to 2100 ml"]


def test_several_flags_are_all_told() -> None:
    mask = np.zeros((20, 5, 5), np.uint8)
    mask[::2, 2, 2] = 1
    known = replace(FINGERPRINT, structures={"liver": VolumeRange(900.0, 2100.0)})
    assert len(liver(mask, known, confidence=0.3)["flags"]) == 4


@pytest.mark.parametrize(("dropped", "flags"), [(1, []), (2, [MISFITS])])
def test_a_structure_of_which_a_twentieth_was_dropped_is_flagged(dropped: int, flags: list[str]) -> None:
    """Its box has 24 voxels: 1 of 25 is less than a twentieth, 2 of 26 are more."""
    assert liver(box(), dropped=dropped)["flags"] == flags


def test_a_structure_that_was_dropped_altogether_is_told_from_one_that_was_not_found() -> None:
    found = liver(np.zeros((4, 4, 4), np.uint8), dropped=7)
    assert found["flags"] == ["empty", MISFITS]
