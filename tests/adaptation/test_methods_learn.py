"""A toy problem that a method of adaptation has to learn: two domains whose structures have inverted contrast.

In the source a disk on the left is bright and a square on the right is dark; in the target it is the other way round. A
segmenter that learns from source images alone goes by brightness and confuses the two.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from iterations import Kind
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.optimizers import adam_optimizers
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_networks import SIFANetworks
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from sifa.adaptation.source_only import SourceOnly
from sifa.networks import PatchDiscriminator, Segmenter, SourceDecoder, TargetGenerator
from sifa.training.iteration_update import Batch, Method

pytestmark = pytest.mark.slow

ITERATIONS, WIDTH, CLASSES, SIZE = 150, 1 / 16, 3, 32
SEEDS = (0, 3)
MARGIN = 0.15  # of Dice, mean over structures and seeds, by which a method has to beat source-only
WEIGHTS: dict[str, dict[str, float]] = {
    "target_generator": {"source_cycle": 1, "target_cycle": 1, "target_adversarial": 1},
    "segmenter": {
        "segmentation": 1,
        "source_cycle": 0.1,
        "target_cycle": 0.1,
        "source_adversarial": 0.1,
        "auxiliary_adversarial": 0.1,
        "prediction_adversarial": 0.1,
    },
    "source_decoder": {"source_cycle": 1, "target_cycle": 1, "source_adversarial": 1},
}


def draw(count: int, generator: torch.Generator, target: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images (count, 1, SIZE, SIZE) in [-1, 1] and their labels: 1 for the disk, 2 for the square."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    image = torch.full((count, 1, SIZE, SIZE), -0.1)
    label = torch.zeros(count, 1, SIZE, SIZE, dtype=torch.uint8)
    intensities = (-0.8, 0.7) if target else (0.7, -0.8)
    for index in range(count):
        shift = torch.rand(4, generator=generator) * 14 - 7  # pixels
        disk = ((rows - 16 - shift[0]) ** 2 + (columns - 9 - shift[1] / 3) ** 2).sqrt() < 5.5
        square = ((rows - 16 - shift[2]).abs() < 4) & ((columns - 24 - shift[3] / 4).abs() < 4)
        for value, inside in ((1, disk), (2, square)):
            image[index, 0][inside] = intensities[value - 1]
            label[index, 0][inside] = value
    return (image + 0.05 * torch.randn(image.shape, generator=generator)).clamp(-1, 1), label


def build(kind: Kind) -> Method:
    segmenter = Segmenter(1, CLASSES, WIDTH)
    networks = SIFANetworks(
        segmenter,
        TargetGenerator(1, WIDTH, num_blocks=2),
        SourceDecoder(segmenter.encoder.out_channels, 1, WIDTH, num_blocks=2),
        PatchDiscriminator(1, 1, WIDTH),
        PatchDiscriminator(1, 2, WIDTH),
        PatchDiscriminator(CLASSES, 1, WIDTH),
    )
    optimizers = adam_optimizers(networks, 3e-3, 2e-3, (0.5, 0.999), 1e-4)
    loss = SegmentationLoss(1.0)
    if kind is SIFA or kind is SIFASimultaneous:
        return kind(networks, optimizers, WEIGHTS, loss, ImagePool(0), ImagePool(0))
    return SourceOnly(segmenter, optimizers["segmenter"], loss)


@functools.cache
def target_dice(kind: Any, seed: int) -> float:
    """Trains a method and returns its Dice on new target images, mean over both structures, normalized by the batch."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    method = build(kind)
    for network in method.networks.values():
        network.train()
    for _ in range(ITERATIONS):
        source_image, source_label = draw(4, generator, target=False)
        target_image, _ = draw(4, generator, target=True)
        method.step(Batch(source_image, source_label, target_image), epoch=1)
    image, label = draw(32, torch.Generator().manual_seed(99), target=True)
    with torch.no_grad():
        found = method.networks["segmenter"](image).argmax(dim=1, keepdim=True)
    dice = []
    for value in range(1, CLASSES):
        predicted, true = (found == value).float(), (label == value).float()
        dice.append(float(2 * (predicted * true).sum() / (predicted + true).sum()))
    return sum(dice) / len(dice)


def mean_dice(kind: Any) -> float:
    return sum(target_dice(kind, seed) for seed in SEEDS) / len(SEEDS)


@pytest.mark.parametrize("kind", [SIFA, SIFASimultaneous])
def test_a_method_learns_from_unlabeled_target_images_what_source_images_alone_do_not_teach(kind: Kind) -> None:
    assert mean_dice(kind) > mean_dice(SourceOnly) + MARGIN
