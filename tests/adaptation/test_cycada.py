"""CyCADA's last stage: its losses, the gate, and what a weight of 0 leaves."""

from __future__ import annotations

import copy

import pytest
import torch
from iterations import draw_batch, segmentation_of
from methods import LOSS, build, gradients, is_buffer, segmenter_of, spy_on_gradients, state, step
from sifa.adaptation.accuracy_gate import AccuracyGate
from sifa.adaptation.optimizers import adam_optimizers
from sifa.adaptation.source_only import SourceOnly
from torch.nn.functional import softplus

BATCH = draw_batch(0)
CLOSED = 0.999


def test_a_step_minimizes_the_restated_losses_first_of_the_discriminator_then_of_the_segmenter() -> None:
    method = build("cycada")
    seen = {name: spy_on_gradients(optimizer) for name, optimizer in method.optimizers.items()}
    segmenter, discriminator = (copy.deepcopy(network).train() for network in method.networks.values())
    fake = method.frozen["target_generator"](BATCH["source_image"]).detach()
    fake_latent, target_latent = segmenter.encoder(fake), segmenter.encoder(BATCH["target_image"])
    classifier = segmenter.pixel_classifier
    fake_scores, target_scores = classifier.classifier(fake_latent), classifier.classifier(target_latent)
    domain = 0.5 * (
        softplus(-discriminator(fake_scores.detach())).mean() + softplus(discriminator(target_scores.detach())).mean()
    )

    output = step(method, BATCH)
    fooling = softplus(-method.networks["feature_discriminator"](target_scores)).mean()
    loss = segmentation_of(classifier(fake_latent), BATCH["source_label"]) + 0.1 * fooling
    for name, network, expected in (
        ("feature_discriminator", discriminator, domain),
        ("segmenter", segmenter, loss),
    ):
        for actual, gradient in zip(seen[name][0], gradients(expected, network), strict=True):
            torch.testing.assert_close(actual, gradient, rtol=1e-9, atol=1e-12)
    assert output["loss"].item() == pytest.approx(loss.item())
    assert torch.equal(output["fake_target"], fake)


@pytest.mark.parametrize("how", ["weight", "gate"])
def test_without_the_adversarial_term_it_trains_on_translated_images_as_without_adaptation(how: str) -> None:
    weights = {"segmenter": {"segmentation": 1, "feature_adversarial": 0 if how == "weight" else 0.1}}
    method = build("cycada", loss_weights=weights, gate=AccuracyGate(CLOSED if how == "gate" else None))
    segmenter = segmenter_of()
    optimizer = adam_optimizers({"segmenter": segmenter}, 1e-2, 2e-3, (0.5, 0.999), 0.01)["segmenter"]
    alone = SourceOnly(segmenter, optimizer, LOSS)
    generator = method.frozen["target_generator"]
    for seed in range(3):
        batch = draw_batch(seed)
        output = step(method, batch)
        translated = generator(batch["source_image"]).detach()
        step(alone, batch | {"source_image": translated})
        assert output["gate_open"].item() == (how == "weight")
    adapted, expected = state({"segmenter": method.networks["segmenter"]}), state(alone.networks)
    assert all(torch.equal(adapted[name], expected[name]) for name in expected if not is_buffer(name))


def test_running_statistics_are_those_of_target_images() -> None:
    method = build("cycada")
    alone = copy.deepcopy(method.networks["segmenter"]).train()
    alone(BATCH["target_image"])
    step(method, BATCH)
    expected = dict(alone.named_buffers())
    for name, buffer in method.networks["segmenter"].named_buffers():
        torch.testing.assert_close(buffer, expected[name], rtol=0, atol=1e-12)
