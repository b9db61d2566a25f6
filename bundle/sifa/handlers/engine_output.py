"""Scalars and images of an iteration's batch and output, for handlers of any method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ignite.engine import Engine
from monai.data import decollate_batch


def scalars(engine: Engine) -> dict[str, float]:
    """Returns the scalars of `engine.state.output`: a dictionary of tensors, or a list of them once decollated."""
    output: Any = engine.state.output
    entries = output[0] if isinstance(output, list) else output
    return {
        name: float(value)
        for name, value in entries.items()
        if isinstance(value, float) or (torch.is_tensor(value) and value.ndim == 0)  # decollation makes floats
    }


def samples(engine: Engine, count: int) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Returns the images, labels and logits in `engine.state.batch` and `engine.state.output`.

    Args:
        engine: the trainer; its batch and its output may be decollated or not.
        count: number of samples, from the first of the batch on; fewer if the batch is smaller.

    Returns:
        A dictionary per sample, from the names in batch and output to arrays (C, H, W).
    """
    batch, output = _by_sample(engine.state.batch), _by_sample(engine.state.output)
    return [
        {
            name: np.asarray(value.detach().float().cpu())
            for name, value in {**taken, **made}.items()
            if torch.is_tensor(value) and value.ndim == 3
        }
        for taken, made in zip(batch[:count], output[:count], strict=True)
    ]


def _by_sample(entries: Any) -> list[Mapping[str, Any]]:
    if isinstance(entries, list):
        return entries
    stacked = {name: value for name, value in entries.items() if torch.is_tensor(value) and value.ndim == 4}
    return decollate_batch(stacked)
