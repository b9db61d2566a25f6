"""DANN: its step against an explicit gradient reversal, its schedule, and what a weight of 0 leaves."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from builders import refusal
from conftest import BUNDLE
from iterations import draw_batch, segmentation_of
from methods import LOSS, build, gradients, is_buffer, segmenter_of, spy_on_gradients, state, step
from monai.bundle import ConfigParser
from sifa.adaptation.optimizers import adam_optimizers
from sifa.adaptation.source_only import SourceOnly
from torch.nn.functional import softplus

BATCH = draw_batch(0)
WEIGHT = 0.3


class Reversal(torch.autograd.Function):
    """A gradient reversal layer as Ganin et al. define it."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor) -> torch.Tensor:
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return -WEIGHT * gradient


def test_a_step_equals_one_through_an_explicit_gradient_reversal_layer() -> None:
    method = build("dann", loss_weights={"segmenter": {"segmentation": 1, "feature_adversarial": WEIGHT}})
    seen = {name: spy_on_gradients(optimizer) for name, optimizer in method.optimizers.items()}
    segmenter, discriminator = (copy.deepcopy(network).train() for network in method.networks.values())
    source = segmenter.encoder(BATCH["source_image"])
    target = segmenter.encoder(BATCH["target_image"])
    source_scores, target_scores = (discriminator(Reversal.apply(one)) for one in (source, target))
    domain = 0.5 * (softplus(source_scores).mean() + softplus(-target_scores).mean())  # source 0, target 1
    loss = segmentation_of(segmenter.pixel_classifier(source), BATCH["source_label"]) + domain

    output = step(method, BATCH)
    for name, network in (("segmenter", segmenter), ("feature_discriminator", discriminator)):
        for actual, expected in zip(seen[name][0], gradients(loss, network), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    assert output["feature_adversarial"].item() == pytest.approx(-domain.item())
    assert output["feature_discriminator_loss"].item() == pytest.approx(domain.item())


def test_a_weight_of_0_gives_the_parameters_of_training_without_adaptation_bit_for_bit() -> None:
    method = build("dann", loss_weights={"segmenter": {"segmentation": 1, "feature_adversarial": 0}})
    segmenter = segmenter_of()
    optimizer = adam_optimizers({"segmenter": segmenter}, 1e-2, 2e-3, (0.5, 0.999), 0.01)["segmenter"]
    alone = SourceOnly(segmenter, optimizer, LOSS)
    for seed in range(3):
        step(method, draw_batch(seed))
        step(alone, draw_batch(seed))
    adapted, expected = state({"segmenter": method.networks["segmenter"]}), state(alone.networks)
    parameters = [name for name in expected if not is_buffer(name)]
    assert all(torch.equal(adapted[name], expected[name]) for name in parameters)


def test_running_statistics_are_those_of_target_images() -> None:
    method = build("dann")
    alone = copy.deepcopy(method.networks["segmenter"]).train()
    alone(BATCH["target_image"])
    step(method, BATCH)
    expected = dict(alone.named_buffers())
    for name, buffer in method.networks["segmenter"].named_buffers():
        torch.testing.assert_close(buffer, expected[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("overlays", [(), ("compact.yaml",)])
def test_lambda_of_the_overlay_follows_the_schedule_of_the_paper(overlays: tuple[str, ...]) -> None:
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("train.yaml", *overlays, "dann.yaml")])
    epochs: int = parser.get_parsed_content("epochs")
    weights: Any = parser.get_parsed_content("loss_weights#segmenter#feature_adversarial")
    assert weights == pytest.approx([0.3 * (2 / (1 + math.exp(-10 * done / epochs)) - 1) for done in range(epochs)])
    assert weights[0] == 0
    assert weights == sorted(weights)
    assert 0.29 < weights[-1] < 0.3


def test_a_term_of_another_method_is_refused() -> None:
    message = refusal(lambda: build("dann", loss_weights={"segmenter": {"target_cycle": 1}}))
    assert "target_cycle" in message
    assert "feature_adversarial" in message
