"""A toy problem that a method of adaptation has to learn: two domains whose structures have inverted contrast.

In the source a disk on the left is bright and a square on the right is dark; in the target it is the other way round. A
segmenter that learns from source images alone goes by brightness and confuses the two.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from methods import PNP_TAPS, step
from sifa.adaptation import (
    ADDA,
    DANN,
    SIFA,
    AccuracyGate,
    CyCADA,
    CycleGAN,
    ImagePool,
    PnPAdaNet,
    SegmentationLoss,
    SIFANetworks,
    SIFASimultaneous,
    SourceOnly,
    adam_optimizers,
    rmsprop_optimizers,
)
from sifa.networks import (
    LatentDiscriminator,
    PatchDiscriminator,
    Segmenter,
    SourceDecoder,
    TargetGenerator,
    freeze,
    tap_channels,
)
from sifa.training.iteration_update import Method
from torch import nn

pytestmark = pytest.mark.slow

ITERATIONS, WIDTH, CLASSES, SIZE = 150, 1 / 16, 3, 32
SEEDS = (0, 1, 3)
MARGIN = 0.1  # of Dice, mean over structures and seeds, by which a method has to beat source-only
SEGMENTER_LR, ADVERSARIAL_LR, ADDA_LR, PNP_LR = 3e-3, 2e-3, 2e-4, 1e-3
LOSS = SegmentationLoss(1.0)
SIFA_WEIGHTS: dict[str, dict[str, float]] = {
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
CYCLEGAN_WEIGHTS: dict[str, dict[str, float]] = {
    "target_generator": {"source_cycle": 1, "target_cycle": 1, "target_adversarial": 1},
    "source_generator": {"source_cycle": 1, "target_cycle": 1, "source_adversarial": 1},
    "segmenter": {"segmentation": 1},
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


def adam(networks: Any, segmenter_lr: float = SEGMENTER_LR) -> dict[str, Any]:
    return dict(adam_optimizers(networks, segmenter_lr, ADVERSARIAL_LR, (0.5, 0.999), 1e-4))


def build_source_only(segmenter: Segmenter) -> Method:
    return SourceOnly(segmenter, adam({"segmenter": segmenter})["segmenter"], LOSS)


def build_sifa(kind: Any, segmenter: Segmenter) -> Method:
    networks = SIFANetworks(
        segmenter,
        TargetGenerator(1, WIDTH, num_blocks=2),
        SourceDecoder(segmenter.encoder.out_channels, 1, WIDTH, num_blocks=2),
        PatchDiscriminator(1, 1, WIDTH),
        PatchDiscriminator(1, 2, WIDTH),
        PatchDiscriminator(CLASSES, 1, WIDTH),
    )
    method: Method = kind(networks, adam(networks), SIFA_WEIGHTS, LOSS, ImagePool(0), ImagePool(0))
    return method


def build_cyclegan(segmenter: Segmenter) -> CycleGAN:
    networks: dict[str, Any] = {
        "segmenter": segmenter,
        "target_generator": TargetGenerator(1, WIDTH, num_blocks=2),
        "source_generator": TargetGenerator(1, WIDTH, num_blocks=2),
        "target_discriminator": PatchDiscriminator(1, 1, WIDTH),
        "source_discriminator": PatchDiscriminator(1, 1, WIDTH),
    }
    pools: dict[str, Any] = {"target_pool": ImagePool(0), "source_pool": ImagePool(0)}
    optimizers = adam(networks)
    return CycleGAN(**networks, optimizers=optimizers, loss_weights=CYCLEGAN_WEIGHTS, segmentation_loss=LOSS, **pools)


def build_dann(segmenter: Segmenter) -> Method:
    networks: dict[str, Any] = {"segmenter": segmenter, "feature_discriminator": discriminator(segmenter, ["latent"])}
    weights: Any = {"segmenter": {"segmentation": 1, "feature_adversarial": [0, 0.15, 0.3]}}
    return DANN(**networks, optimizers=adam(networks), loss_weights=weights, segmentation_loss=LOSS, taps=["latent"])


def build_adda(segmenter: Segmenter) -> Method:
    source: Any = freeze(copy.deepcopy(segmenter))
    own = discriminator(segmenter, ["latent"])
    optimizers = adam({"segmenter": segmenter.encoder, "feature_discriminator": own}, ADDA_LR)
    weights = {"segmenter": {"feature_adversarial": 1}}
    return ADDA(segmenter, source, own, optimizers, weights, LOSS, ["latent"], AccuracyGate(0.6))


def build_pnp_adanet(segmenter: Segmenter) -> Method:
    source: Any = freeze(copy.deepcopy(segmenter))
    critics: dict[str, Any] = {
        "feature_critic": discriminator(segmenter, PNP_TAPS),
        "mask_critic": PatchDiscriminator(CLASSES, 1, WIDTH),
    }
    optimizers = rmsprop_optimizers({"segmenter": segmenter.encoder.layers[:14], **critics}, PNP_LR, 1e-4)
    weights = {"segmenter": {"feature_adversarial": 1, "mask_adversarial": 0.3}}
    return PnPAdaNet(
        segmenter,
        source,
        **critics,
        optimizers=optimizers,
        loss_weights=weights,
        segmentation_loss=LOSS,
        taps=PNP_TAPS,
        adapted_layers=14,
        critic_steps=2,
        clip=0.03,
    )


def build_cycada(segmenter: Segmenter, first: CycleGAN) -> Method:
    generator = freeze(first.networks["target_generator"])
    networks: dict[str, Any] = {"segmenter": segmenter, "feature_discriminator": discriminator(segmenter, ["logits"])}
    weights = {"segmenter": {"segmentation": 1, "feature_adversarial": 0.1}}
    gate = AccuracyGate(0.6, window=10)
    return CyCADA(
        **networks,
        target_generator=generator,
        optimizers=adam(networks),
        loss_weights=weights,
        segmentation_loss=LOSS,
        taps=["logits"],
        gate=gate,
    )


def discriminator(segmenter: Segmenter, taps: list[str | int]) -> nn.Module:
    return LatentDiscriminator(tap_channels(segmenter, taps), WIDTH)


def train(method: Method, iterations: int, generator: torch.Generator) -> Method:
    for iteration in range(iterations):
        source_image, source_label = draw(4, generator, target=False)
        target_image, _ = draw(4, generator, target=True)
        batch = {"source_image": source_image, "source_label": source_label, "target_image": target_image}
        step(method, batch, epoch=1 + 3 * iteration // iterations)
    return method


def train_by_name(name: str, segmenter: Segmenter, generator: torch.Generator) -> None:
    """Trains all stages of a method; two stages have more iterations in all, since each is short."""
    if name in ("adda", "pnp_adanet"):
        train(build_source_only(segmenter), 100, generator)
        train((build_adda if name == "adda" else build_pnp_adanet)(segmenter), 100, generator)
    elif name == "cycada":
        first = build_cyclegan(segmenter)
        train(first, 120, generator)
        train(build_cycada(segmenter, first), 40, generator)
    else:
        train(BUILDERS[name](segmenter), ITERATIONS, generator)


BUILDERS: dict[str, Any] = {
    "source_only": build_source_only,
    "dann": build_dann,
    "cyclegan": build_cyclegan,
    "sifa": functools.partial(build_sifa, SIFA),
    "sifa_simultaneous": functools.partial(build_sifa, SIFASimultaneous),
}


@functools.cache
def target_dice(name: str, seed: int) -> float:
    """Trains a method and returns its Dice on new target images, mean over both structures, normalized by the batch."""
    torch.manual_seed(seed)
    segmenter = Segmenter(1, CLASSES, WIDTH)
    train_by_name(name, segmenter, torch.Generator().manual_seed(seed))
    image, label = draw(32, torch.Generator().manual_seed(99), target=True)
    with torch.no_grad():
        found = segmenter.train()(image).argmax(dim=1, keepdim=True)
    dice = []
    for value in range(1, CLASSES):
        predicted, true = (found == value).float(), (label == value).float()
        dice.append(float(2 * (predicted * true).sum() / (predicted + true).sum()))
    return sum(dice) / len(dice)


def mean_dice(name: str) -> float:
    return sum(target_dice(name, seed) for seed in SEEDS) / len(SEEDS)


@pytest.mark.parametrize("name", ["sifa", "sifa_simultaneous", "cyclegan", "cycada", "dann", "adda", "pnp_adanet"])
def test_a_method_learns_from_unlabeled_target_images_what_source_images_alone_do_not_teach(name: str) -> None:
    # masks alone is not judged: without source images nothing tells it which of both structures is which
    assert mean_dice(name) > mean_dice("source_only") + MARGIN
