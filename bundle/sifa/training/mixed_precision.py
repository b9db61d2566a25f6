"""The precision that training computes in, and the optimizer step that fits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from sifa.utils.distributed import average_gradients
from sifa.utils.errors import InputError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class MixedPrecision:
    """Runs networks under autocast and moves weights, which stay in float32, along their gradients.

    `float32` computes as the weights are (float64 in tests). `bfloat16` needs no more than autocast. `float16` has too
    few exponents for small gradients, so losses are multiplied by a scale that a `GradScaler` finds; all optimizers of
    a run share it, and one whose gradients overflow sits that iteration out.

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

    def forward(self, network: nn.Module) -> Callable[..., torch.Tensor]:
        """Returns `network` as a function that computes in this precision.

        Autocast keeps no copies of cast weights: an iteration moves weights between its passes, and a copy would be the
        weights of before.
        """

        def run(*inputs: torch.Tensor) -> torch.Tensor:
            enabled = self.dtype is not torch.float32
            with torch.autocast(self.device_type, self.dtype, enabled=enabled, cache_enabled=False):
                return network(*inputs)

        return run

    def descend(self, name: str, optimizer: Optimizer, loss: torch.Tensor) -> dict[str, torch.Tensor]:
        """Moves the parameters of `optimizer`, and nothing else, down the gradient of `loss`; returns the report."""
        optimizer.zero_grad()
        self.scaler.scale(loss).backward(inputs=parameters_of(optimizer))
        return self.move(name, optimizer, loss)

    def move(self, name: str, optimizer: Optimizer, loss: torch.Tensor) -> dict[str, torch.Tensor]:
        """Moves the parameters of `optimizer` along the gradients that they hold, of `loss` times `scaler`'s scale.

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
        """Lets the scale grow or shrink, once all optimizers have stepped."""
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Returns the scale; empty where there is none."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the scale up again."""
        self.scaler.load_state_dict(state)


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """Returns all parameters that `optimizer` moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def in_full(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor of half the precision in float32, and any other as it is: means and squares need the digits."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
