"""What MONAI's `Trainer` calls in each iteration, whatever the method, and what a method has to provide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import nn
from torch.optim import Optimizer

from sifa.networks.weights import hash_of
from sifa.training.checkpoint import load_optimizer
from sifa.training.mixed_precision import MixedPrecision
from sifa.training.weight_average import WeightAverage
from sifa.utils.distributed import mean_over_processes

EVENTS = (
    IterationEvents.FORWARD_COMPLETED,
    IterationEvents.LOSS_COMPLETED,
    IterationEvents.BACKWARD_COMPLETED,
    IterationEvents.MODEL_COMPLETED,
)


@dataclass
class Batch:
    """The batch of one iteration on the device: images (B, C, H, W) in [-1, 1], labels (B, 1, H, W)."""

    source_image: torch.Tensor  # x_s; of size (0, C, H, W) where the training has no source images
    source_label: torch.Tensor  # y_s
    target_image: torch.Tensor  # x_t; of size (0, C, H, W) where the training has no target images
    source_view: torch.Tensor | None = None  # x_s with a random appearance, for the term `random_appearance`
    target_view: torch.Tensor | None = None  # x_t with a random appearance, for self-training
    labeled_target_image: torch.Tensor | None = None  # slices of target scans that have labels
    labeled_target_label: torch.Tensor | None = None  # their labels
    inside: torch.Tensor | None = None  # false in padding, of x_s and x_t alike, (B, 1, H, W); None: there is none


class Stateful(Protocol):
    """Anything with a state that a checkpoint keeps."""

    def state_dict(self) -> Mapping[str, Any]:
        """Returns the state."""

    def load_state_dict(self, state: Any) -> Any:
        """Restores the state."""


class Method(Protocol):
    """A method of adaptation: its networks, its optimizers and the updates of one iteration.

    Attributes:
        name: identifies the method in checkpoints; it does not change when the class moves or is renamed.
        networks: the networks that train, by name; one of them is `segmenter`.
        frozen: networks that are read only: never trained, never saved; their hash is part of a run's identity.
        optimizers: the optimizer of each network that has one, by the network's name.
        shared_state: further state of the method that is equal on all processes.
        process_state: further state of the method that each process has for itself, such as image pools.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  the class documents it

    @property
    def networks(self) -> Mapping[str, nn.Module]: ...  # noqa: D102  the class documents it

    @property
    def frozen(self) -> Mapping[str, nn.Module]: ...  # noqa: D102  the class documents it

    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...  # noqa: D102  the class documents it

    @property
    def shared_state(self) -> Mapping[str, Stateful]: ...  # noqa: D102  the class documents it

    @property
    def process_state(self) -> Mapping[str, Stateful]: ...  # noqa: D102  the class documents it

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Updates the networks on one batch.

        Args:
            batch: the batch, on the device of the networks.
            epoch: counted from 1.

        Returns:
            What is logged and drawn: scalars (loss terms, losses, gradient norms, learning rates, scheduled weights)
            and images (B, C, H, W) by `SIFAKeys`; `loss` is the loss of the segmenter.
        """


class IterationUpdate:
    """`iteration_update` of a `monai.engines.Trainer`: runs one step of a method.

    It moves the batch to the device, puts networks into training mode and frozen ones into evaluation mode, lets the
    method update its networks, updates the weight average, averages scalars over the processes, fires the four events
    of an iteration, and collects and restores the state of all of these.

    Args:
        method: the method.
        precision: the precision that the method computes in; None: float32.
        average: the weight average of the segmenter, updated after each iteration; None: there is none.
    """

    def __init__(
        self, method: Method, precision: MixedPrecision | None = None, average: WeightAverage | None = None
    ) -> None:
        self.method = method
        self.precision = precision or MixedPrecision()
        self.average = average

    def __call__(self, engine: Engine, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one iteration.

        Args:
            engine: the trainer, of which the device and the epoch are read.
            batchdata: the entries of `Batch` by name; a domain without images is an empty batch.

        Returns:
            What the method returned, without gradients; scalars are means over the processes that train together.
        """
        state: Any = engine.state
        given = dict(batchdata)
        given.setdefault("target_image", batchdata.get("source_image", torch.empty(0))[:0])
        given.setdefault("source_image", given["target_image"][:0])
        given.setdefault("source_label", given["target_image"][:0].to(torch.uint8))
        names = [field.name for field in fields(Batch) if field.name in given]
        batch = Batch(**{name: given[name].to(state.device, non_blocking=True) for name in names})
        for network in self.method.networks.values():
            network.train()
        for network in self.method.frozen.values():
            network.eval()
        output = {str(name): value.detach() for name, value in self.method.step(batch, state.epoch).items()}
        self.precision.end_iteration()
        if self.average is not None:
            self.average.update()
        scalars = {name: value for name, value in output.items() if value.ndim == 0}
        state.output = {**output, **mean_over_processes(scalars, state.device)}
        for event in EVENTS:
            engine.fire_event(event)
        return state.output

    def modules(self) -> list[nn.Module]:
        """Returns the networks that train."""
        return list(self.method.networks.values())

    def identity(self) -> dict[str, Any]:
        """Returns what a checkpoint's method must have in common with a run that resumes from it: name and frozen."""
        return {
            "name": self.method.name,
            "frozen": {name: hash_of(network) for name, network in self.method.frozen.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that all processes share: weights, optimizers, gradient scale, average, the method's."""
        return {
            "networks": {name: network.state_dict() for name, network in self.method.networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.method.optimizers.items()},
            "precision": self.precision.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
            "method": _states(self.method.shared_state),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        for name, network in self.method.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.method.optimizers.items():
            load_optimizer(optimizer, state["optimizers"][name])
        self.precision.load_state_dict(state["precision"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        _restore(self.method.shared_state, state["method"])

    def process_state_dict(self) -> dict[str, Any]:
        """Returns the state that each process has for itself."""
        return _states(self.method.process_state)

    def load_process_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state that `process_state_dict` returned."""
        _restore(self.method.process_state, state)


def present(**parts: Stateful | None) -> dict[str, Stateful]:
    """Returns the parts that there are, for `Method.shared_state`."""
    return {name: part for name, part in parts.items() if part is not None}


def _states(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items()}


def _restore(parts: Mapping[str, Stateful], states: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        part.load_state_dict(states[name])
