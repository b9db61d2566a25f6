"""Engines that run handlers without a network: what an iteration put out is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from builders import make_fingerprint
from ignite.engine import Engine
from sifa.handlers import ModelSaver
from sifa.training.model_files import save_model
from torch import nn

STRUCTURES = {1: "left <atrium>", 2: "$aorta$"}
DATA = {
    "name": "tiny & <generated>",
    "labels": {"0": "background", "1": "left <atrium>", "2": "$aorta$"},
    "slice_plane": "coronal",
    "slice_size": [16, 16],
    "spacing": [2.0, 2.0, 0],
    "source": {"modality": "MR", "volumes": 3},
    "target": {"modality": "CT", "volumes": 4},
}
ADAPTED = ("fake_target", "reconstructed_source", "fake_source", "reconstructed_target")


def go(
    handlers: Sequence[Any],
    step: Callable[[Engine, Any], Any] = lambda engine, batch: {"loss": torch.tensor(1.0)},
    epochs: int = 1,
    iterations: int = 4,
    done: int = 0,
) -> None:
    """Runs an engine with handlers, from an iteration on."""
    engine = Engine(step)
    for handler in handlers:
        handler.attach(engine)
    engine.load_state_dict({"iteration": done, "max_epochs": epochs, "epoch_length": iterations})
    engine.run(range(iterations))


def saver(network: nn.Module, folder: Path, **options: Any) -> ModelSaver:
    """Returns a handler that saves a network with a fingerprint."""
    return ModelSaver(
        network, partial(save_model, segmenter=network, fingerprint=make_fingerprint()), folder, **options
    )


def slices(names: Sequence[str], height: int = 16, width: int = 16) -> dict[str, torch.Tensor]:
    """Returns images of two samples; logits of 3 classes for `pred`."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(2, 3 if name == "pred" else 1, height, width, generator=generator) * 2 - 1 for name in names
    }


def scripted(values: dict[str, Sequence[float]]) -> Callable[[Engine, Any], dict[str, torch.Tensor]]:
    """Returns a step whose scalars take these values, one an iteration."""
    return lambda engine, batch: {name: torch.tensor(row[engine.state.iteration - 1]) for name, row in values.items()}


def date_events_back(folder: Path) -> None:
    """Makes the event files in a folder a second older by their names, by which TensorBoard orders them."""
    prefix = "events.out.tfevents."
    for path in folder.glob(f"{prefix}*"):
        seconds, rest = path.name.removeprefix(prefix).split(".", 1)
        path.rename(path.with_name(f"{prefix}{int(seconds) - 1:010d}.{rest}"))
