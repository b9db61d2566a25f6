"""Scalars of iterations in TensorBoard and in a CSV file, those of epochs in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from sifa.handlers.engine_output import scalars
from sifa.reports.scalar_groups import group_of
from sifa.reports.scalar_table import EPOCH, ITERATION, append_row, rewrite
from sifa.reports.selection_table import SCORES
from sifa.utils.distributed import is_main_process
from sifa.utils.files import writing


class ScalarLog:
    """Writes all scalar entries of `engine.state.output` to TensorBoard and to `<output_dir>/scalars.csv`.

    TensorBoard's tags begin with the scalar's group, such as `losses/segmenter_loss`. At the end of an epoch it also
    gets `selection/score` and the other scores of model selection, and after a validation `validation/mean_dice` and
    the other metrics, in the units of the evaluator. Both are on disk after each record. A resumed training replaces
    the records of later iterations; a new one replaces the table and TensorBoard's curves. The table holds no times:
    two runs with one seed write the same bytes.

    Args:
        output_dir: folder of the event files and the table.
        interval: number of iterations between two records.
        validator: the evaluator whose metrics are recorded; None: there is none.
    """

    def __init__(self, output_dir: str | Path, interval: int = 1, validator: Engine | None = None) -> None:
        self.output_dir = Path(output_dir)
        self.interval = interval
        self.validator = validator
        self.iteration = 0
        self.path = self.output_dir / "scalars.csv"
        self.columns: list[str] = []
        self.writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Records while `engine` runs, on the main process."""
        if not is_main_process():
            return
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self.record)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.record_selection)
        engine.add_event_handler(Events.COMPLETED, self.close)
        if self.validator is not None:
            self.validator.add_event_handler(Events.COMPLETED, self.record_validation)

    def open(self, engine: Engine) -> None:
        """Drops the records of later iterations and opens an event file.

        Raises:
            InputError: when the folder cannot be written, as in `record`.
        """
        done = engine.state.iteration
        with writing(self.path):
            self.columns = rewrite(self.path, done, [EPOCH, ITERATION])
            self.writer = SummaryWriter(str(self.output_dir), purge_step=done + 1)

    def record(self, engine: Engine) -> None:
        """Records the scalars of this iteration."""
        values, iteration = scalars(engine), engine.state.iteration
        row = {EPOCH: engine.state.epoch, ITERATION: iteration, **values}
        with writing(self.path):
            if not row.keys() <= set(self.columns):
                self.columns = rewrite(self.path, iteration - 1, row)
            append_row(self.path, [row.get(name, "") for name in self.columns])
            self._write({f"{group_of(name).tag}/{name}": value for name, value in values.items()}, iteration)

    def record_selection(self, engine: Engine) -> None:
        """Records the scores of model selection, which `ModelSaver` has put into the metrics of the trainer."""
        self.iteration = engine.state.iteration
        metrics = engine.state.metrics
        with writing(self.path):
            self._write({f"selection/{name}": metrics[name] for name in SCORES if name in metrics}, self.iteration)

    def record_validation(self, validator: Engine) -> None:
        """Records the metrics of a validation at the end of an epoch; those that are not available are left out."""
        metrics = {f"validation/{name}": float(value) for name, value in validator.state.metrics.items()}
        with writing(self.path):
            self._write({tag: value for tag, value in metrics.items() if np.isfinite(value)}, self.iteration)

    def _write(self, values: Mapping[str, float], iteration: int) -> None:
        assert self.writer is not None  # opened when the run started
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, iteration)
        self.writer.flush()

    def close(self, engine: Engine) -> None:
        """Closes the event file."""
        if self.writer is not None:
            self.writer.close()
