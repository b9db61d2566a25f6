"""CycleGAN: its iteration against SIFA's with a generator that ignores the latents, and the semantic term."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from iterations import RATE, SEGMENTER_RATE, WEIGHT_DECAY, OldImages, draw_batch
from methods import COLUMNS, CYCLES, LOSS, build, gradients, spy_on_gradients, state, step
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.optimizers import adam_optimizers
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_networks import SIFANetworks
from torch import nn
from torch.nn.functional import cross_entropy

BATCHES = [draw_batch(0), draw_batch(1)]
SEMANTIC = {
    **COLUMNS["cyclegan"],
    "target_generator": {**COLUMNS["cyclegan"]["target_generator"], "semantic": 2},
}


class IgnoringLatents(nn.Module):
    """A generator of images in the place of U: SIFA's image adaptation is then CycleGAN."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latent: torch.Tensor, image: torch.Tensor) -> Any:
        return self.generator(image)


@pytest.mark.parametrize("pool", [ImagePool(0), OldImages(1)], ids=["new fakes", "old fakes"])
def test_iterations_equal_those_of_sifa_whose_source_generator_does_not_see_the_latents(pool: ImagePool) -> None:
    method = build("cyclegan", target_pool=copy.deepcopy(pool), source_pool=copy.deepcopy(pool))
    parts: Any = copy.deepcopy(dict(method.networks))
    networks = SIFANetworks(
        parts["segmenter"],
        parts["target_generator"],
        IgnoringLatents(parts["source_generator"]),
        parts["target_discriminator"],
        parts["source_discriminator"],
    )
    columns: Any = {
        "target_generator": COLUMNS["cyclegan"]["target_generator"],
        "segmenter": {"segmentation": 1},
        "source_decoder": {**CYCLES, "source_adversarial": 1},
    }
    optimizers = adam_optimizers(networks, SEGMENTER_RATE, RATE, (0.5, 0.999), WEIGHT_DECAY)
    sifa = SIFA(networks, optimizers, columns, LOSS, copy.deepcopy(pool), copy.deepcopy(pool))
    for batch in BATCHES:
        expected, actual = step(sifa, batch), step(method, batch)
        for name in ("target_adversarial", "segmentation"):
            assert actual[name].item() == pytest.approx(expected[name].item(), rel=1e-9), name
    after, reference = state(method.networks), state(parts)
    for name, value in after.items():
        torch.testing.assert_close(value, reference[name], rtol=0, atol=1e-9)


def test_translations_do_not_depend_on_the_segmenter() -> None:
    method, other = build("cyclegan"), build("cyclegan")
    for parameter in other.networks["segmenter"].parameters():
        parameter.data.mul_(1.5)
    for batch in BATCHES:
        first, second = step(method, batch), step(other, batch)
    for image in ("fake_target", "fake_source", "reconstructed_source", "reconstructed_target"):
        assert torch.equal(first[image], second[image])


def test_the_semantic_term_is_the_cross_entropy_of_translated_images_and_moves_the_generator_alone() -> None:
    method = build("cyclegan", loss_weights=SEMANTIC)
    plain = build("cyclegan")
    segmenter, generator = (copy.deepcopy(method.networks[name]).train() for name in ("segmenter", "target_generator"))
    seen, without = (spy_on_gradients(one.optimizers["target_generator"]) for one in (method, plain))
    loss = cross_entropy(segmenter(generator(BATCHES[0]["source_image"])), BATCHES[0]["source_label"][:, 0].long())
    output, _ = step(method, BATCHES[0]), step(plain, BATCHES[0])
    assert output["semantic"].item() == pytest.approx(loss.item())
    for actual, rest, expected in zip(seen[0], without[0], gradients(loss, generator), strict=True):
        torch.testing.assert_close(actual - rest, 2 * expected, rtol=1e-7, atol=1e-12)
    source, other = (one.networks["source_generator"].state_dict() for one in (method, plain))
    buffers = [name for name, _ in method.networks["segmenter"].named_buffers()]
    statistics, others = (one.networks["segmenter"].state_dict() for one in (method, plain))
    assert all(torch.equal(statistics[name], others[name]) for name in buffers)
    assert any(not torch.equal(source[name], other[name]) for name in source)  # through the changed translations


def test_running_statistics_come_from_one_forward_of_the_target_images() -> None:
    method = build("cyclegan")
    alone = copy.deepcopy(method.networks["segmenter"]).train()
    alone(BATCHES[0]["target_image"])
    step(method, BATCHES[0])
    expected = dict(alone.named_buffers())
    for name, buffer in method.networks["segmenter"].named_buffers():
        torch.testing.assert_close(buffer, expected[name], rtol=0, atol=1e-12)
