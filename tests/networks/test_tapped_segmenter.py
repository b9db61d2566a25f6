"""Activations beside the logits, the discriminator of latents, and the clip of weights."""

from __future__ import annotations

import pytest
import torch
from builders import refusal
from iterations import CLASSES, randomize
from methods import segmenter_of
from sifa.networks import LatentDiscriminator, TappedSegmenter, tap_channels
from sifa.networks.weights import clip_weights
from torch import nn

IMAGE = torch.rand(2, 1, 32, 16, dtype=torch.float64) * 2 - 1


def test_the_logits_are_those_of_the_segmenter_bit_for_bit() -> None:
    segmenter = segmenter_of()
    assert torch.equal(TappedSegmenter(segmenter, ["latent", "logits", 9])(IMAGE)[0], segmenter(IMAGE))


def test_taps_are_joined_in_their_order_at_the_resolution_of_the_latents() -> None:
    segmenter = segmenter_of()
    encoder, classifier = segmenter.encoder, segmenter.pixel_classifier.classifier
    latent = encoder(IMAGE)
    logits = classifier(latent)
    parts = [logits.softmax(1), encoder.layers[:10](IMAGE), latent, logits, latent]
    _, joined = TappedSegmenter(segmenter, ["probabilities", 9, "latent", "logits", 19])(IMAGE)
    assert joined.shape[2:] == (4, 2)
    assert torch.equal(joined, torch.cat(parts, dim=1))


@pytest.mark.parametrize("taps", [["latent"], ["logits"], ["probabilities", 8], [9, 13, 15, 19, "logits"]])
def test_the_number_of_channels_is_that_of_the_joined_taps(taps: list[str | int]) -> None:
    segmenter = segmenter_of()
    assert tap_channels(segmenter, taps) == TappedSegmenter(segmenter, taps)(IMAGE)[1].shape[1]


@pytest.mark.parametrize("taps", [["features"], [7], [20], [-1], ["latent", "output"]])
def test_an_unknown_tap_is_refused(taps: list[str | int]) -> None:
    assert "choose from latent, logits, probabilities" in refusal(lambda: TappedSegmenter(segmenter_of(), taps))


def test_the_discriminator_judges_each_location_by_itself() -> None:
    discriminator = randomize(LatentDiscriminator(CLASSES, 1 / 32))
    features = torch.rand(2, CLASSES, 4, 3, dtype=torch.float64)
    scores = discriminator(features)
    assert scores.shape == (2, 1, 4, 3)
    features[:, :, 1, 2] += 1
    changed = discriminator(features) != scores
    assert changed[:, :, 1, 2].all()
    assert changed.sum() == 2


def test_its_layers_are_those_of_the_paper_at_width_1() -> None:
    channels = [layer.out_channels for layer in LatentDiscriminator(512).modules() if isinstance(layer, nn.Conv2d)]
    assert channels == [512, 512, 1]


def test_clipping_limits_convolutions_and_leaves_norms() -> None:
    convolution, norm = nn.Conv2d(1, 2, 1), nn.InstanceNorm2d(2, affine=True)
    network = nn.Sequential(convolution, norm)
    nn.init.constant_(convolution.weight, -3)
    network.load_state_dict({**network.state_dict(), "0.bias": torch.full((2,), 0.125)})
    nn.init.constant_(norm.weight, 3)
    clip_weights(network, 0.5)
    values = {name: set(value.flatten().tolist()) for name, value in network.state_dict().items()}
    assert values == {"0.weight": {-0.5}, "0.bias": {0.125}, "1.weight": {3}, "1.bias": {0}}
