"""The adversarial iteration at tiny size in float64, and a naive one that computes everything again for each update."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest
import torch
from ignite.engine import Events
from monai.engines import Trainer
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.self_training import SelfTraining
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_networks import SIFANetworks
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from sifa.adaptation.source_only import SourceOnly
from sifa.networks import PatchDiscriminator, Segmenter, SourceDecoder, TargetGenerator
from sifa.training.iteration_update import IterationUpdate
from sifa.training.mixed_precision import MixedPrecision
from sifa.training.weight_average import WeightAverage
from torch import nn
from torch.optim import Adam

CLASSES, WIDTH, LAMBDA_DICE, WEIGHT_DECAY = 3, 1 / 32, 0.7, 0.01
RATE, SEGMENTER_RATE = 2e-3, 1e-2  # ten times the paper's, so that two iterations show a slip
ORDER = (
    "target_generator",
    "target_discriminator",
    "segmenter",
    "source_decoder",
    "source_discriminator",
    "prediction_discriminator",
)
Columns = Mapping[str, Mapping[str, Any]]
State = dict[str, torch.Tensor]
Network = TypeVar("Network", bound=nn.Module)
Kind = type[SIFA] | type[SIFASimultaneous] | type[SourceOnly]

PAPER: Columns = {  # the matrix of the design, w_p at its end
    "target_generator": {"source_cycle": 10, "target_cycle": 10, "target_adversarial": 1},
    "segmenter": {
        "segmentation": 1,
        "source_cycle": 1,
        "target_cycle": 1,
        "source_adversarial": 0.1,
        "auxiliary_adversarial": 0.1,
        "prediction_adversarial": 0.1,
    },
    "source_decoder": {"source_cycle": 10, "target_cycle": 10, "source_adversarial": 1},
}
IMAGE_ADAPTATION: Columns = {  # without FA-I and FA-P
    **PAPER,
    "segmenter": {**PAPER["segmenter"], "auxiliary_adversarial": 0, "prediction_adversarial": 0},
}
WITHOUT_AUXILIARY: Columns = {**PAPER, "segmenter": {**PAPER["segmenter"], "auxiliary_adversarial": 0}}
EVERY_TERM: Columns = {  # no two weights alike, and none zero
    "target_generator": {"source_cycle": 2, "target_cycle": 3, "target_adversarial": 5},
    "segmenter": {
        "segmentation": 0.5,
        "source_cycle": 1.5,
        "target_cycle": 2.5,
        "source_adversarial": 3.5,
        "auxiliary_adversarial": 4.5,
        "prediction_adversarial": 5.5,
    },
    "source_decoder": {
        "source_cycle": 0.3,
        "target_cycle": 0.7,
        "source_adversarial": 1.1,
        "auxiliary_adversarial": 1.3,
    },
}


class OldImages(ImagePool):
    """Stands for a pool that returns an old image every time; what it returns follows from what it gets."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        assert not images.requires_grad
        return 0.5 * images.flip(-1)


# --- A run at tiny size ----------------------------------------------------------------------------------------------


def build_networks(
    seed: int = 0, auxiliary: bool = True, prediction: bool = True, guided: bool = False
) -> SIFANetworks:
    """SIFANetworks in float64 and evaluation mode; weights large enough that every path counts."""
    torch.manual_seed(seed)
    segmenter = Segmenter(1, CLASSES, WIDTH)
    networks = SIFANetworks(
        segmenter,
        TargetGenerator(1, WIDTH, num_blocks=1, num_classes=CLASSES if guided else 0),
        SourceDecoder(segmenter.encoder.out_channels, 1, WIDTH, num_blocks=1),
        PatchDiscriminator(1, 1, WIDTH),
        PatchDiscriminator(1, 2 if auxiliary else 1, WIDTH),
        PatchDiscriminator(CLASSES, 1, WIDTH) if prediction else None,
    )
    for network in networks.by_name().values():
        randomize(network)
    return networks


def randomize(network: Network) -> Network:
    """Returns a network in float64 and evaluation mode, with weights large enough that every path counts."""
    for layer in network.double().eval().modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.reset_parameters()
        if isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
    return network


def state_of(networks: SIFANetworks) -> State:
    """Copies of all parameters and buffers, `<network>.<name>`."""
    return {
        f"{part}.{name}": value.detach().clone()
        for part, network in networks.by_name().items()
        for name, value in network.state_dict().items()
    }


def optimizers_of(networks: SIFANetworks, weight_decay: float) -> dict[str, Adam]:
    optimizers = {
        name: Adam(network.parameters(), lr=RATE, betas=(0.5, 0.999))
        for name, network in networks.by_name().items()
        if name != "segmenter"
    }
    optimizers["segmenter"] = Adam(networks.segmenter.parameters(), lr=SEGMENTER_RATE, weight_decay=weight_decay)
    return optimizers


def draw_batch(seed: int = 0, view: bool = False) -> dict[str, torch.Tensor]:
    """Two slices of each domain, of 16 x 32 pixels, and a view of the target's where asked for."""
    generator = torch.Generator().manual_seed(seed)

    def image() -> torch.Tensor:
        return 2 * torch.rand(2, 1, 16, 32, dtype=torch.float64, generator=generator) - 1

    label = torch.randint(CLASSES, (2, 1, 16, 32), dtype=torch.uint8, generator=generator)
    batch = {"source_image": image(), "source_label": label, "target_image": image()}
    return batch | {"target_view": image()} if view else batch


BATCHES = [draw_batch(0), draw_batch(1)]
CASES = pytest.mark.parametrize(  # what both orders of updates are held to
    ("columns", "auxiliary", "prediction", "guided", "pool"),
    [
        pytest.param(PAPER, True, True, False, ImagePool(0), id="SIFA"),
        pytest.param(EVERY_TERM, True, True, False, ImagePool(0), id="every term"),
        pytest.param(EVERY_TERM, True, True, False, OldImages(1), id="every fake is old"),
        pytest.param(EVERY_TERM, True, True, False, ImagePool(1, seed=3), id="pool of one"),
        pytest.param(WITHOUT_AUXILIARY, False, True, False, ImagePool(0), id="image adaptation + FA-P"),
        pytest.param(IMAGE_ADAPTATION, False, False, False, ImagePool(0), id="image adaptation"),
        pytest.param(EVERY_TERM, True, True, True, ImagePool(0), id="G_t told the classes"),
    ],
)


def update_of(
    networks: SIFANetworks,
    columns: Columns = PAPER,
    target_pool: ImagePool | None = None,
    source_pool: ImagePool | None = None,
    kind: Kind = SIFA,
    precision: str = "float32",  # that is, in the type of the weights
    average: WeightAverage | None = None,
    self_training: SelfTraining | None = None,
) -> IterationUpdate:
    mixed_precision, loss = MixedPrecision(precision), SegmentationLoss(LAMBDA_DICE)
    optimizers = optimizers_of(networks, WEIGHT_DECAY)
    if kind is SourceOnly:
        source_only = SourceOnly(networks.segmenter, optimizers["segmenter"], loss, mixed_precision)
        return IterationUpdate(source_only, mixed_precision, average)
    method = cast(type[SIFA] | type[SIFASimultaneous], kind)(
        networks,
        optimizers,
        columns,
        loss,
        target_pool or ImagePool(0),
        source_pool or ImagePool(0),
        mixed_precision,
        self_training,
    )
    return IterationUpdate(method, mixed_precision, average)


def trainer_of(update: IterationUpdate, batches: Sequence[Any] = BATCHES, epochs: int = 1) -> Trainer:
    """MONAI's stock trainer."""
    return Trainer("cpu", max_epochs=epochs, data_loader=batches, iteration_update=update, decollate=False)


def train(update: IterationUpdate, batches: Sequence[Any] = BATCHES, epochs: int = 1) -> list[dict[str, Any]]:
    """Runs `update` and returns the outputs of its iterations."""
    outputs: list[dict[str, Any]] = []
    trainer = trainer_of(update, batches, epochs)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(dict(engine.state.output)))
    trainer.run()
    return outputs


def largest_difference(first: State, second: State) -> tuple[float, str]:
    """The largest absolute difference of two states, and where it is."""
    assert first.keys() == second.keys()
    return max(((first[key] - second[key]).abs().max().item(), key) for key in first)


def moved(before: State, after: State) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


# --- The naive iteration ---------------------------------------------------------------------------------------------


def to_one(scores: torch.Tensor) -> torch.Tensor:
    return ((scores - 1) ** 2).mean()


def to_zero(scores: torch.Tensor) -> torch.Tensor:
    return (scores**2).mean()


def segmentation_of(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    p = logits.softmax(1)
    g = torch.stack([(label[:, 0] == k).double() for k in range(CLASSES)], dim=1)
    cross_entropy = -((1 - g.mean((0, 2, 3), keepdim=True)) * g * p.log()).sum(1).mean()
    dice = 2 * (p * g).sum((0, 2, 3)) / ((p * p).sum((0, 2, 3)) + (g * g).sum((0, 2, 3)) + 1e-7)
    return cross_entropy + LAMBDA_DICE * (1 - dice.mean())


@dataclass
class Images:
    """All that the networks make of a batch, with the graph through every one of them."""

    fake_target: torch.Tensor
    fake_source: torch.Tensor
    reconstructed_source: torch.Tensor
    reconstructed_target: torch.Tensor
    fake_logits: torch.Tensor
    target_logits: torch.Tensor


def images_of(networks: SIFANetworks, batch: Mapping[str, torch.Tensor]) -> Images:
    encoder, classifier = networks.segmenter.encoder, networks.segmenter.pixel_classifier
    source, target = batch["source_image"], batch["target_image"]
    guided = networks.target_generator.num_classes > 0
    truth = torch.stack([(batch["source_label"][:, 0] == k).double() for k in range(CLASSES)], dim=1)
    target_logits = classifier(encoder(target))
    fake_target = networks.target_generator(source, truth if guided else None)
    fake_source = networks.source_decoder(encoder(target), target)
    return Images(
        fake_target,
        fake_source,
        networks.source_decoder(encoder(fake_target), fake_target),
        networks.target_generator(fake_source, target_logits.detach().softmax(1) if guided else None),
        classifier(encoder(fake_target)),
        target_logits,
    )


class NaiveIteration:
    """The table of the design, line by line: no result is kept from one update to the next, nothing is detached.

    Every update copies all networks, computes every image with the copies in training mode, states its formula, and
    moves its own network along the derivative of that formula with respect to its own parameters. The L2 term is
    written out. Running statistics change in one place only.
    """

    def __init__(
        self, networks: SIFANetworks, columns: Columns, target_pool: ImagePool, source_pool: ImagePool
    ) -> None:
        self.networks = copy.deepcopy(networks)
        self.optimizers = optimizers_of(self.networks, weight_decay=0)
        self.columns = columns
        self.target_pool = target_pool
        self.source_pool = source_pool

    def run(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Runs one iteration and returns each term as it stood before the update that minimizes it, and each loss."""
        self.update_running_statistics(batch["target_image"])
        report: dict[str, float] = {}
        for name in ORDER:
            if name not in self.networks.by_name():
                continue
            scratch = copy.deepcopy(self.networks)
            for network in scratch.by_name().values():
                network.train()
            terms = self.terms_of(name, scratch, batch)
            loss = torch.stack([self.columns[name].get(term, 0) * value for term, value in terms.items()]).sum()
            own = list(scratch.by_name()[name].parameters())
            l2 = WEIGHT_DECAY / 2 * torch.stack([p.square().sum() for p in own]).sum()
            gradients = torch.autograd.grad(loss + l2 if name == "segmenter" else loss, own)
            for parameter, gradient in zip(self.networks.by_name()[name].parameters(), gradients, strict=True):
                parameter.grad = gradient
            self.optimizers[name].step()
            report[f"{name}_loss"] = loss.item()
            if name in ("target_generator", "segmenter"):
                report |= {term: value.item() for term, value in terms.items()}
        return report

    def update_running_statistics(self, target_image: torch.Tensor) -> None:
        scratch = copy.deepcopy(self.networks.segmenter.encoder).train()
        scratch(target_image)
        for buffer, new in zip(self.networks.segmenter.encoder.buffers(), scratch.buffers(), strict=True):
            buffer.copy_(new)

    def terms_of(self, name: str, n: SIFANetworks, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        images = images_of(n, batch)
        source_cycle = (images.reconstructed_source - batch["source_image"]).abs().mean()
        target_cycle = (images.reconstructed_target - batch["target_image"]).abs().mean()
        if name == "target_generator":
            return {
                "source_cycle": source_cycle,
                "target_cycle": target_cycle,
                "target_adversarial": to_one(n.target_discriminator(images.fake_target)),
            }
        if name == "target_discriminator":
            fakes = self.target_pool(images.fake_target.detach())
            real = n.target_discriminator(batch["target_image"])
            return {"all": 0.5 * (to_one(real) + to_zero(n.target_discriminator(fakes)))}
        scores = n.source_discriminator(images.fake_source)
        auxiliary = scores.shape[1] == 2
        if name == "source_discriminator":
            fakes = self.source_pool(images.fake_source.detach())
            real, fake = n.source_discriminator(batch["source_image"]), n.source_discriminator(fakes)
            loss = 0.5 * (to_one(real[:, 0]) + to_zero(fake[:, 0]))
            if auxiliary:
                reconstructed = n.source_discriminator(images.reconstructed_source)
                loss = loss + 0.5 * (to_one(reconstructed[:, 1]) + to_zero(fake[:, 1]))
            return {"all": loss}
        if name == "prediction_discriminator":
            assert n.prediction_discriminator is not None
            real, fake = (
                n.prediction_discriminator(images.fake_logits),
                n.prediction_discriminator(images.target_logits),
            )
            return {"all": 0.5 * (to_one(real) + to_zero(fake))}
        terms = {
            "source_cycle": source_cycle,
            "target_cycle": target_cycle,
            "source_adversarial": to_one(scores[:, 0]),
        }
        if auxiliary:
            terms["auxiliary_adversarial"] = to_one(scores[:, 1])
        if name == "segmenter":
            terms["segmentation"] = segmentation_of(images.fake_logits, batch["source_label"])
            if n.prediction_discriminator is not None:
                terms["prediction_adversarial"] = to_one(n.prediction_discriminator(images.target_logits))
        return terms


def naive_iteration(
    networks: SIFANetworks, columns: Columns, target_pool: ImagePool, source_pool: ImagePool
) -> NaiveIteration:
    discriminators: Columns = {name: {"all": 1} for name in ORDER if name.endswith("discriminator")}
    return NaiveIteration(networks, {**columns, **discriminators}, target_pool, source_pool)
