"""State of optimizers that fits their parameters wherever these lie and however they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Takes up again what `optimizer.state_dict()` returned, on another device or in another memory format as well.

    Fused Adam walks through parameters and moments side by side, so both have to be stored alike; torch leaves moments
    as they were stored when the state was written: channels last on a GPU, channels first on a CPU.

    Args:
        optimizer: of parameters in the order of those that the state is of.
        state: of an optimizer of the same kind.

    Raises:
        ValueError: when the parameters are not as many.
    """
    optimizer.load_state_dict(dict(state))
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
