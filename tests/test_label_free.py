"""The score that chooses an epoch without labels: its range, its repeatability, and what it must not disturb."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from iterations import build_networks, draw_batch
from sifa.label_free import LabelFreeScore
from sifa.networks import Segmenter
from sifa.slice_cache import VolumeSlices
from sifa.target_statistics import TargetStatistics

IMAGES = torch.cat([draw_batch(seed)["target_image"] for seed in range(3)])
FREQUENCIES = torch.tensor([0.7, 0.2, 0.1])


def statistics() -> TargetStatistics:
    return TargetStatistics(VolumeSlices([{"image": IMAGES}]), batch_size=4)


def measured_segmenter() -> Segmenter:
    segmenter = build_networks().segmenter
    statistics().measure(segmenter)
    return segmenter


def bias_of(segmenter: Segmenter) -> torch.Tensor:
    bias = segmenter.pixel_classifier.classifier.bias
    assert bias is not None
    return bias


def test_plausibility_is_the_quotient_of_the_shares_that_are_found_and_expected() -> None:
    segmenter = measured_segmenter()
    label = segmenter.eval()(IMAGES).argmax(1)
    quotients = []
    for k in (1, 2):
        found, expected = (label == k).double().mean().item(), FREQUENCIES[k].item()
        quotients.append(min(found / expected, expected / found))
    scores = LabelFreeScore(statistics(), FREQUENCIES)(segmenter)
    assert scores["plausibility"] == pytest.approx(np.mean(quotients), rel=1e-5)
    assert all(0 <= value <= 1 for value in scores.values())


def test_the_same_network_has_the_same_score_and_nothing_of_it_changes() -> None:
    segmenter = measured_segmenter().train()
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    first, second = (LabelFreeScore(statistics(), FREQUENCIES)(segmenter) for _ in range(2))
    assert first == second
    assert segmenter.training
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())


def test_a_network_that_finds_no_structure_scores_zero() -> None:
    segmenter = measured_segmenter()
    with torch.no_grad():
        bias_of(segmenter).add_(torch.tensor([100.0, 0, 0]))
    assert LabelFreeScore(statistics(), FREQUENCIES)(segmenter)["score"] == 0


def test_a_class_that_neither_the_source_nor_the_network_knows_leaves_the_score_finite() -> None:
    segmenter = measured_segmenter()
    with torch.no_grad():
        bias_of(segmenter).add_(torch.tensor([0, 0, -100.0]))
    scores = LabelFreeScore(statistics(), torch.tensor([0.8, 0.2, 0.0]))(segmenter)
    assert all(math.isfinite(value) for value in scores.values())
    assert scores["score"] > 0
