"""The precision of training, and the optimizer step that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from sifa.utils.distributed import average_gradients
from sifa.utils.errors import InputError

T = TypeVar("T")

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class MixedPrecision:
    """Runs networks under autocast and steps optimizers; weights stay in float32.

    `float32` computes in the type of the weights (float64 in tests). `bfloat16` needs nothing but autocast. `float16`
    has too small a range for small gradients, so losses are multiplied by a scale that a `GradScaler` adapts; all
    optimizers of a run share it, and an optimizer whose gradients overflow skips its step.

    Args:
        name: `float32`, `bfloat16` or `float16`.
        device: where the networks are.

    Raises:
        InputError: when there is no such precision.
    """

    def __init__(self, name: str = "float32", device: torch.device | str = "cpu") -> None:
        if name not in PRECISIONS:
            raise InputError(f"precision is {name!r}: choose from {', '.join(PRECISIONS)}.")
        self.dtype = PRECISIONS[name]
        self.device_type = torch.device(device).type
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=name == "float16")

    def forward(self, network: Callable[..., T]) -> Callable[..., T]:
        """Returns `network` as a function that computes in this precision.

        The cache of cast weights is off: an iteration changes weights between its passes, and the cache would hold the
        earlier ones.
        """

        def run(*inputs: torch.Tensor) -> T:
            enabled = self.dtype is not torch.float32
            with torch.autocast(self.device_type, self.dtype, enabled=enabled, cache_enabled=False):
                return network(*inputs)

        return run

    def step(self, name: str, optimizer: Optimizer, loss: torch.Tensor) -> dict[str, torch.Tensor]:
        """Computes the gradient of `loss` for the parameters of `optimizer` only, then `step_from_gradients`."""
        optimizer.zero_grad()
        self.scaler.scale(loss).backward(inputs=parameters_of(optimizer))
        return self.step_from_gradients(name, optimizer, loss)

    def step_from_gradients(self, name: str, optimizer: Optimizer, loss: torch.Tensor) -> dict[str, torch.Tensor]:
        """Steps with the gradients that the parameters of `optimizer` hold: of `loss` times the scale of `scaler`.

        Returns:
            `<name>_loss`, `<name>_gradient_norm` (before the optimizer's own terms, such as L2) and
            `<name>_learning_rate`, scalars.
        """
        gradients = [parameter.grad for parameter in parameters_of(optimizer) if parameter.grad is not None]
        average_gradients(gradients)
        self.scaler.unscale_(optimizer)
        norm = get_total_norm(gradients)
        self.scaler.step(optimizer)
        return {
            f"{name}_loss": loss,
            f"{name}_gradient_norm": norm,
            f"{name}_learning_rate": torch.tensor(float(optimizer.param_groups[0]["lr"])),
        }

    def end_iteration(self) -> None:
        """Updates the scale after all optimizers have stepped."""
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the scale; empty where there is none."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the scale."""
        self.scaler.load_state_dict(state)


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """Returns all parameters of `optimizer`."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def in_full(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a half-precision tensor in float32, and any other unchanged: means and squares need the digits."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
