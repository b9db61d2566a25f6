"""Every scalar of an iteration, in TensorBoard and in a CSV file."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from sifa.handlers.engine_output import scalars
from sifa.reports.scalar_table import EPOCH, ITERATION, append_row, rewrite
from sifa.utils.distributed import is_main_process
from sifa.utils.files import writing


class ScalarLog:
    """Writes all scalar entries of `engine.state.output` to TensorBoard and to `<output_dir>/scalars.csv`.

    Both are on disk after each record. A resumed training replaces the records of later iterations; a new one replaces
    the table and TensorBoard's curves. The table holds no times: two runs with one seed write the same bytes.

    Args:
        output_dir: folder of the event files and the table.
        interval: number of iterations between two records.
    """

    def __init__(self, output_dir: str | Path, interval: int = 1) -> None:
        self.output_dir = Path(output_dir)
        self.interval = interval
        self.path = self.output_dir / "scalars.csv"
        self.columns: list[str] = []
        self.writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Records while `engine` runs, on the main process."""
        if not is_main_process():
            return
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self.record)
        engine.add_event_handler(Events.COMPLETED, self.close)

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
        assert self.writer is not None  # opened when the run started
        values, iteration = scalars(engine), engine.state.iteration
        row = {EPOCH: engine.state.epoch, ITERATION: iteration, **values}
        with writing(self.path):
            if not row.keys() <= set(self.columns):
                self.columns = rewrite(self.path, iteration - 1, row)
            append_row(self.path, [row.get(name, "") for name in self.columns])
            for name, value in values.items():
                self.writer.add_scalar(name, value, iteration)
            self.writer.flush()

    def close(self, engine: Engine) -> None:
        """Closes the event file."""
        if self.writer is not None:
            self.writer.close()
