"""ADDA: its losses, what stays as the first stage left it, and the gate."""

from __future__ import annotations

import copy

import pytest
import torch
from iterations import draw_batch
from methods import build, gradients, spy_on_gradients, state, step
from sifa.adaptation.accuracy_gate import AccuracyGate
from torch.nn.functional import softplus

BATCH = draw_batch(0)
CLOSED, OPEN = 0.999, None


def test_a_step_minimizes_the_restated_losses_first_of_the_discriminator_then_of_the_encoder() -> None:
    method = build("adda")
    seen = {name: spy_on_gradients(optimizer) for name, optimizer in method.optimizers.items()}
    segmenter, discriminator = (copy.deepcopy(network).train() for network in method.networks.values())
    reference = copy.deepcopy(method.frozen["source_segmenter"]).eval()
    with torch.no_grad():
        source = reference.encoder(BATCH["source_image"])
    target = segmenter.encoder(BATCH["target_image"])
    domain = 0.5 * (softplus(-discriminator(source)).mean() + softplus(discriminator(target.detach())).mean())

    output = step(method, BATCH)
    fooling = softplus(-method.networks["feature_discriminator"](target)).mean()  # with the discriminator as updated
    for name, network, loss in (
        ("feature_discriminator", discriminator, domain),
        ("segmenter", segmenter.encoder, fooling),
    ):
        for actual, expected in zip(seen[name][0], gradients(loss, network), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    assert output["loss"].item() == output["feature_adversarial"].item() == pytest.approx(fooling.item())


def test_the_classifier_stays_bit_identical_to_that_of_the_first_stage() -> None:
    method = build("adda")
    before = state(method.networks)
    for seed in range(3):
        step(method, draw_batch(seed))
    after = state(method.networks)
    classifier = [name for name in before if name.startswith("segmenter.pixel_classifier")]
    assert classifier
    assert all(torch.equal(before[name], after[name]) for name in classifier)


def test_before_the_first_iteration_it_predicts_what_the_first_stage_predicts() -> None:
    method = build("adda")
    with torch.no_grad():
        first = method.frozen["source_segmenter"].eval()(BATCH["target_image"])
        second = method.networks["segmenter"].eval()(BATCH["target_image"])
    assert torch.equal(first, second)


@pytest.mark.parametrize(("threshold", "moves"), [(CLOSED, False), (OPEN, True)])
def test_the_encoder_moves_only_while_the_gate_is_open(threshold: float | None, moves: bool) -> None:
    method = build("adda", gate=AccuracyGate(threshold))
    before = dict(copy.deepcopy(method.networks["segmenter"]).named_parameters())
    discriminator = copy.deepcopy(method.networks["feature_discriminator"])
    output = step(method, BATCH)
    after = dict(method.networks["segmenter"].named_parameters())
    assert output["gate_open"].item() == moves
    assert moves != all(torch.equal(before[name], after[name]) for name in before)
    pairs = zip(discriminator.parameters(), method.networks["feature_discriminator"].parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in pairs)  # the discriminator learns all the same


def test_the_reported_accuracy_is_the_share_of_locations_on_the_right_side() -> None:
    method = build("adda")
    discriminator = copy.deepcopy(method.networks["feature_discriminator"])
    with torch.no_grad():
        source = method.frozen["source_segmenter"].encoder(BATCH["source_image"])
        target = copy.deepcopy(method.networks["segmenter"]).train().encoder(BATCH["target_image"])
        right = [(discriminator(source) > 0).double(), (discriminator(target) < 0).double()]
    expected = torch.stack([one.mean() for one in right]).mean().item()
    assert step(method, BATCH)["discriminator_accuracy"].item() == pytest.approx(expected)
