"""Writes the pair `model.pt` and `fingerprint.json`, and the generators, while training runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from sifa.distributed import is_main_process
from sifa.weights import save_model, save_state


class ModelSaver:
    """Writes the segmenter's weights and the fingerprint at the end of each epoch; the last pair stays.

    The generators, which pictures need and inference does not, go to `generators/<name>.pt` in a folder of their own:
    MONAI Label takes any other `.pt` beside `model.pt` for a choice of weights.

    Args:
        segmenter: C(E(.)).
        fingerprint: what it was trained on.
        output_dir: folder of the pair.
        generators: networks to keep beside it, by name.
    """

    def __init__(
        self,
        segmenter: nn.Module,
        fingerprint: Mapping[str, Any],
        output_dir: str | Path,
        generators: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.fingerprint = fingerprint
        self.output_dir = Path(output_dir)
        self.generators = generators or {}

    def attach(self, engine: Engine) -> None:
        """Saves at the end of each epoch of `engine`, on the main process."""
        if is_main_process():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: Engine) -> None:
        """Writes the pair."""
        save_model(self.segmenter, self.fingerprint, self.output_dir)
        for name, network in self.generators.items():
            save_state(network, self.output_dir / "generators" / f"{name}.pt")
