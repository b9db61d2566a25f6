"""PnP-AdaNet: its losses, the clip of the critics, how often the adapted layers move, and batch norm."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from builders import refusal
from iterations import draw_batch
from methods import ADAPTED_LAYERS, PNP_TAPS, build, gradients, is_buffer, spy_on_gradients, state, step
from sifa.networks import TappedSegmenter
from torch import nn

BATCH = draw_batch(0)
ADAPTED = tuple(f"segmenter.encoder.layers.{number}." for number in range(ADAPTED_LAYERS))


def test_a_step_minimizes_the_restated_losses_first_of_the_critics_then_of_the_adapted_layers() -> None:
    method = build("pnp_adanet", clip=100.0)
    seen = {name: spy_on_gradients(optimizer) for name, optimizer in method.optimizers.items()}
    networks: Any = copy.deepcopy(dict(method.networks))
    source_segmenter: Any = copy.deepcopy(method.frozen["source_segmenter"])
    with torch.no_grad():  # all with stored statistics
        source_logits, source_features = TappedSegmenter(source_segmenter, PNP_TAPS)(BATCH["source_image"])
        target_logits, target_features = TappedSegmenter(networks["segmenter"].eval(), PNP_TAPS)(BATCH["target_image"])
    feature_loss = (
        networks["feature_critic"](target_features).mean() - networks["feature_critic"](source_features).mean()
    )
    mask_loss = networks["mask_critic"](target_logits).mean() - networks["mask_critic"](source_logits).mean()
    networks["segmenter"].encoder.layers[:ADAPTED_LAYERS].train()  # batch statistics, of these layers only
    logits, features = TappedSegmenter(networks["segmenter"], PNP_TAPS)(BATCH["target_image"])

    output = step(method, BATCH)
    critics: Any = method.networks
    fooling = -critics["feature_critic"](features).mean() - 0.3 * critics["mask_critic"](logits).mean()
    for name, network, loss in (
        ("feature_critic", networks["feature_critic"], feature_loss),
        ("mask_critic", networks["mask_critic"], mask_loss),
        ("segmenter", networks["segmenter"].encoder.layers[:ADAPTED_LAYERS], fooling),
    ):
        for actual, expected in zip(seen[name][0], gradients(loss, network), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-12)
    assert output["loss"].item() == pytest.approx(fooling.item())


def test_the_weights_of_the_critics_are_within_the_clip_after_each_step_and_norms_are_not_clipped() -> None:
    method = build("pnp_adanet", clip=0.01)
    for seed in range(2):
        step(method, draw_batch(seed))
        for name in ("feature_critic", "mask_critic"):
            for layer in method.networks[name].modules():
                if isinstance(layer, nn.Conv2d):
                    assert all(parameter.abs().max() <= 0.01 for parameter in layer.parameters())
                if isinstance(layer, nn.GroupNorm):
                    assert layer.weight.max() > 0.1


def test_the_adapted_layers_move_in_every_nth_iteration_and_the_critics_in_each() -> None:
    method = build("pnp_adanet", critic_steps=3)
    moved = []
    for seed in range(6):
        before = state(method.networks)
        step(method, draw_batch(seed))
        after = state(method.networks)
        moved.append({key.split(".")[0] for key in before if not torch.equal(before[key], after[key])})
    critics = {"feature_critic", "mask_critic"}
    assert moved == [critics, critics, {"segmenter", *critics}] * 2


def test_statistics_of_the_shared_layers_stay_and_those_of_the_adapted_layers_collect_target_images() -> None:
    method = build("pnp_adanet")
    before = state(method.networks)
    for seed in range(2):
        step(method, draw_batch(seed))
    after = state(method.networks)
    for name in (name for name in before if is_buffer(name)):
        assert torch.equal(before[name], after[name]) != name.startswith(ADAPTED)


def test_weights_of_0_leave_the_segmenter_as_it_was_while_the_critics_learn() -> None:
    weights = {"segmenter": {"feature_adversarial": [0, 1], "mask_adversarial": [0, 0.3]}}
    method = build("pnp_adanet", loss_weights=weights)
    before = state(method.networks)
    output = step(method, BATCH, epoch=1)
    after = state(method.networks)
    changed = {key for key in before if not torch.equal(before[key], after[key]) and not is_buffer(key)}
    assert {key.split(".")[0] for key in changed} == {"feature_critic", "mask_critic"}
    assert output["loss"].item() == 0
    step(method, BATCH, epoch=2)
    assert not torch.equal(state(method.networks)[f"{ADAPTED[0]}0.weight"], before[f"{ADAPTED[0]}0.weight"])


def test_before_the_first_iteration_it_predicts_what_the_first_stage_predicts() -> None:
    method = build("pnp_adanet")
    with torch.no_grad():
        first = method.frozen["source_segmenter"].eval()(BATCH["target_image"])
        second = method.networks["segmenter"].eval()(BATCH["target_image"])
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"adapted_layers": 0}, "adapted_layers"),
        ({"adapted_layers": 21}, "adapted_layers"),
        ({"clip": 0}, "clip"),
        ({"critic_steps": 0}, "critic_steps"),
        ({"taps": [7]}, "taps"),
        ({"taps": []}, "taps"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], word: str) -> None:
    assert word in refusal(lambda: build("pnp_adanet", **changes))
