"""Writes the pair `model.pt` and `fingerprint.json`, and the generators, while training runs."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from sifa.adaptation.model_selection import ModelSelectionScore
from sifa.reports.scalar_table import EPOCH, ITERATION, append_row, rewrite
from sifa.reports.selection_table import SCORES, read_scores
from sifa.training.model_files import save_state
from sifa.utils.distributed import is_main_process
from sifa.utils.files import writing

logger = logging.getLogger(__name__)


class ModelSaver:
    """Writes `model.pt` and `fingerprint.json` at the end of an epoch.

    With `score` the pair in `output_dir` is replaced when no earlier epoch had a higher score, `last/` always holds the
    pair of the last epoch, and `selection.csv` has a row of scores for each epoch. Without `score` each epoch replaces
    the pair. The generators, which figures need and inference does not, are those of the last epoch, in
    `generators/<name>.pt`; beside `model.pt` MONAI Label would offer them as weights.

    Args:
        segmenter: the exported C(E(.)).
        save_model: writes the pair to `folder`, a keyword argument; see `sifa.training.model_files.save_model`.
        output_dir: folder of the pair.
        generators: further networks to write, by name.
        score: scores the segmenter on unlabeled target slices; None: the last epoch is the best.
        keep_epochs: whether the pairs of all epochs are kept, in `epochs/<number>/`.
    """

    def __init__(
        self,
        segmenter: nn.Module,
        save_model: Callable[..., None],
        output_dir: str | Path,
        generators: Mapping[str, Any] | None = None,
        score: ModelSelectionScore | None = None,
        keep_epochs: bool = False,
    ) -> None:
        self.segmenter = segmenter
        self.save_model = save_model
        self.output_dir = Path(output_dir)
        self.generators = generators or {}
        self.score = score
        self.keep_epochs = keep_epochs
        self.table = self.output_dir / "selection.csv"

    def attach(self, engine: Engine) -> None:
        """Saves at the end of each epoch of `engine`, on the main process."""
        if is_main_process():
            engine.add_event_handler(Events.STARTED, self.start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def start(self, engine: Engine) -> None:
        """Drops the scores of later epochs, and what an earlier training has left in the folder."""
        if not engine.state.iteration:
            for name in ("generators", "epochs"):
                shutil.rmtree(self.output_dir / name, ignore_errors=True)
        if self.score is not None:
            with writing(self.table):
                rewrite(self.table, engine.state.iteration, [EPOCH, ITERATION, *SCORES])

    def save(self, engine: Engine) -> None:
        """Writes weights and fingerprint.

        Raises:
            InputError: when it cannot be written.
        """
        if self.score is None:
            self._save_pair(self.output_dir)
        else:
            scores = self.score(self.segmenter)
            engine.state.metrics.update(scores)  # for TensorBoard and trackers
            self._save_if_best(engine, scores)
        if self.keep_epochs:
            self._save_pair(self.output_dir / "epochs" / f"{engine.state.epoch:04d}")
        for name, network in self.generators.items():
            path = self.output_dir / "generators" / f"{name}.pt"
            with writing(path):
                save_state(network, path)

    def _save_pair(self, folder: Path) -> None:
        with writing(folder):
            self.save_model(folder=folder)

    def _save_if_best(self, engine: Engine, scores: Mapping[str, float]) -> None:
        earlier = read_scores(self.table)
        highest = 0.0 if earlier is None else earlier.highest
        self._save_pair(self.output_dir / "last")
        if scores["score"] >= highest:
            self._save_pair(self.output_dir)
        with writing(self.table):
            append_row(self.table, [engine.state.epoch, engine.state.iteration, *scores.values()])
        best = "the best so far" if scores["score"] >= highest else f"the best so far: {highest:.3f}"
        logger.info("epoch %d: score for model selection %.3f, %s", engine.state.epoch, scores["score"], best)
