"""What an iteration put out, for handlers."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine


def scalars(engine: Engine) -> dict[str, float]:
    """Returns the scalars of `engine.state.output`: a dictionary of tensors or, once decollated, a list of such."""
    output: Any = engine.state.output
    entries = output[0] if isinstance(output, list) else output
    return {
        name: float(value)
        for name, value in entries.items()
        if isinstance(value, float) or (torch.is_tensor(value) and value.ndim == 0)  # decollation makes floats
    }
