"""Every method at tiny size in float64, for tests that hold for all rows of the table of methods."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from iterations import CLASSES, LAMBDA_DICE, PAPER, RATE, SEGMENTER_RATE, WEIGHT_DECAY, WIDTH, build_networks, randomize
from sifa.adaptation.accuracy_gate import AccuracyGate
from sifa.adaptation.adda import ADDA
from sifa.adaptation.cycada import CyCADA
from sifa.adaptation.cyclegan import CycleGAN
from sifa.adaptation.dann import DANN
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.masks_alone import MasksAlone
from sifa.adaptation.optimizers import adam_optimizers, rmsprop_optimizers
from sifa.adaptation.pnp_adanet import PnPAdaNet
from sifa.adaptation.self_training import SelfTraining
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from sifa.adaptation.source_free import SourceFree
from sifa.adaptation.source_only import SourceOnly
from sifa.networks import LatentDiscriminator, PatchDiscriminator, Segmenter, TargetGenerator, freeze, tap_channels
from sifa.training.iteration_update import Batch, Method
from sifa.training.weight_average import WeightAverage
from torch import nn
from torch.optim import Optimizer

ADAPTED_LAYERS = 14
PNP_TAPS: list[str | int] = [9, 13, 15, 19, "logits", "probabilities"]
CYCLES = {"source_cycle": 10, "target_cycle": 10}
COLUMNS: dict[str, dict[str, dict[str, float]]] = {  # the weights of the overlays
    "dann": {"segmenter": {"segmentation": 1, "feature_adversarial": 0.3}},
    "adda": {"segmenter": {"feature_adversarial": 1}},
    "cyclegan": {
        "target_generator": {**CYCLES, "target_adversarial": 1},
        "source_generator": {**CYCLES, "source_adversarial": 1},
        "segmenter": {"segmentation": 1},
    },
    "cycada": {"segmenter": {"segmentation": 1, "feature_adversarial": 0.1}},
    "pnp_adanet": {"segmenter": {"feature_adversarial": 1, "mask_adversarial": 0.3}},
    "masks_alone": {"segmenter": {"mask_adversarial": 1, "within_class": 1}},
    "source_free": {"segmenter": {"self_training": 1}},
}
LOSS = SegmentationLoss(LAMBDA_DICE)
SIFA_ROWS: dict[str, Any] = {"sifa": SIFA, "sifa_simultaneous": SIFASimultaneous}
State = dict[str, torch.Tensor]


def segmenter_of(seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    return randomize(Segmenter(1, CLASSES, WIDTH))


def _discriminator(segmenter: Segmenter, taps: list[str | int]) -> nn.Module:
    return randomize(LatentDiscriminator(tap_channels(segmenter, taps), WIDTH))


def _adam(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    return dict(adam_optimizers(networks, SEGMENTER_RATE, RATE, (0.5, 0.999), WEIGHT_DECAY))


def _sifa(kind: Any, **changes: Any) -> Method:
    networks = build_networks()
    optimizers = adam_optimizers(networks, SEGMENTER_RATE, RATE, (0.5, 0.999), WEIGHT_DECAY)
    arguments = {"loss_weights": PAPER, **changes}
    return kind(networks, optimizers, arguments["loss_weights"], LOSS, ImagePool(0), ImagePool(0))


def _source_only(**changes: Any) -> Method:
    segmenter = segmenter_of()
    return SourceOnly(segmenter, _adam({"segmenter": segmenter})["segmenter"], LOSS)


def _dann(**changes: Any) -> Method:
    segmenter = segmenter_of()
    networks = {"segmenter": segmenter, "feature_discriminator": _discriminator(segmenter, ["latent"])}
    arguments: dict[str, Any] = {"loss_weights": COLUMNS["dann"], "taps": ["latent"], **changes}
    return DANN(**networks, optimizers=_adam(networks), segmentation_loss=LOSS, **arguments)  # type: ignore[arg-type]


def _adda(**changes: Any) -> Method:
    segmenter = segmenter_of()
    discriminator = _discriminator(segmenter, ["latent"])
    parts = {"segmenter": segmenter.encoder, "feature_discriminator": discriminator}
    arguments: dict[str, Any] = {
        "loss_weights": COLUMNS["adda"],
        "taps": ["latent"],
        "gate": AccuracyGate(None),
        **changes,
    }
    source: Any = freeze(copy.deepcopy(segmenter))
    return ADDA(segmenter, source, discriminator, _adam(parts), segmentation_loss=LOSS, **arguments)


def _cyclegan(**changes: Any) -> Method:
    sifa = build_networks(auxiliary=False)
    torch.manual_seed(5)
    networks: dict[str, Any] = {
        "segmenter": sifa.segmenter,
        "target_generator": sifa.target_generator,
        "source_generator": randomize(TargetGenerator(1, WIDTH, num_blocks=1)),
        "target_discriminator": sifa.target_discriminator,
        "source_discriminator": sifa.source_discriminator,
    }
    arguments: dict[str, Any] = {
        "loss_weights": COLUMNS["cyclegan"],
        "target_pool": ImagePool(0),
        "source_pool": ImagePool(0),
        **changes,
    }
    return CycleGAN(**networks, optimizers=_adam(networks), segmentation_loss=LOSS, **arguments)


def _cycada(**changes: Any) -> Method:
    segmenter = segmenter_of()
    networks = {"segmenter": segmenter, "feature_discriminator": _discriminator(segmenter, ["logits"])}
    generator = freeze(randomize(TargetGenerator(1, WIDTH, num_blocks=1)))
    arguments: dict[str, Any] = {
        "loss_weights": COLUMNS["cycada"],
        "taps": ["logits"],
        "gate": AccuracyGate(None),
        **changes,
    }
    return CyCADA(
        **networks,  # type: ignore[arg-type]
        target_generator=generator,
        optimizers=_adam(networks),
        segmentation_loss=LOSS,
        **arguments,
    )


def _pnp_adanet(**changes: Any) -> Method:
    segmenter = segmenter_of()
    source: Any = freeze(copy.deepcopy(segmenter))
    critics: dict[str, Any] = {
        "feature_critic": _discriminator(segmenter, PNP_TAPS),
        "mask_critic": randomize(PatchDiscriminator(CLASSES, 1, WIDTH)),
    }
    parts = {"segmenter": segmenter.encoder.layers[:ADAPTED_LAYERS], **critics}
    arguments: dict[str, Any] = {
        "loss_weights": COLUMNS["pnp_adanet"],
        "taps": PNP_TAPS,
        "adapted_layers": ADAPTED_LAYERS,
        "critic_steps": 1,
        "clip": 0.03,
        **changes,
    }
    return PnPAdaNet(
        segmenter,
        source,
        **critics,
        optimizers=rmsprop_optimizers(parts, RATE, WEIGHT_DECAY),
        segmentation_loss=LOSS,
        **arguments,
    )


def _masks_alone(**changes: Any) -> Method:
    networks: dict[str, Any] = {
        "segmenter": segmenter_of(),
        "mask_discriminator": randomize(PatchDiscriminator(CLASSES, 1, WIDTH)),
    }
    arguments: dict[str, Any] = {"loss_weights": COLUMNS["masks_alone"], **changes}
    return MasksAlone(**networks, optimizers=_adam(networks), segmentation_loss=LOSS, **arguments)


def _source_free(**changes: Any) -> Method:
    segmenter = segmenter_of()
    teacher = WeightAverage(segmenter, 0.9)
    self_training = SelfTraining(teacher, torch.tensor([0.4, 0.3, 0.3]), lambda probabilities, image: probabilities)
    arguments: dict[str, Any] = {"loss_weights": COLUMNS["source_free"], "self_training": self_training, **changes}
    optimizer = _adam({"segmenter": segmenter})["segmenter"]
    return SourceFree(segmenter, optimizer, segmentation_loss=LOSS, **arguments)


BUILDERS: dict[str, Callable[..., Method]] = {
    **{name: lambda kind=kind, **changes: _sifa(kind, **changes) for name, kind in SIFA_ROWS.items()},
    "source_only": _source_only,
    "dann": _dann,
    "adda": _adda,
    "cyclegan": _cyclegan,
    "cycada": _cycada,
    "pnp_adanet": _pnp_adanet,
    "masks_alone": _masks_alone,
    "source_free": _source_free,
}


def build(name: str, **changes: Any) -> Any:
    """Returns a method by its name, with the weights and settings of its overlay unless changed."""
    return BUILDERS[name](**changes)


def state(networks: Mapping[str, nn.Module]) -> State:
    """Copies of all parameters and buffers, `<network>.<name>`."""
    return {
        f"{part}.{name}": value.detach().clone()
        for part, network in networks.items()
        for name, value in network.state_dict().items()
    }


def is_buffer(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def step(method: Method, batch: Mapping[str, torch.Tensor], epoch: int = 1) -> dict[str, torch.Tensor]:
    """Runs one step in the modes that `IterationUpdate` sets."""
    for network in method.networks.values():
        network.train()
    for network in method.frozen.values():
        network.eval()
    return method.step(Batch(**batch), epoch)


def gradients(loss: torch.Tensor, network: nn.Module) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters()), retain_graph=True))


def spy_on_gradients(optimizer: Optimizer) -> list[list[torch.Tensor]]:
    """Returns a list to which each step of the optimizer adds the gradients that it steps with."""
    seen: list[list[torch.Tensor]] = []

    def note(optimizer: Any, *_: Any) -> None:
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        seen.append([one.grad.detach().clone() for one in parameters if one.grad is not None])

    optimizer.register_step_pre_hook(note)
    return seen
