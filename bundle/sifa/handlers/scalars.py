"""Every loss of the iteration as TensorBoard scalars and in a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from sifa.handlers.engine_output import scalars


class ScalarLog:
    """Writes all scalar entries of `engine.state.output` to TensorBoard and to `<output_dir>/scalars.csv`.

    Args:
        output_dir: folder of the event files and the table.
        interval: iterations between two records.
    """

    def __init__(self, output_dir: str | Path, interval: int = 1) -> None:
        self.output_dir = Path(output_dir)
        self.interval = interval
        self.writer: SummaryWriter | None = None
        self.rows: list[dict[str, float]] = []

    def attach(self, engine: Engine) -> None:
        """Records while `engine` runs."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self.record)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write_table)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def record(self, engine: Engine) -> None:
        """Records the scalars of this iteration."""
        if self.writer is None:
            self.writer = SummaryWriter(str(self.output_dir))
        values = scalars(engine)
        for name, value in values.items():
            self.writer.add_scalar(name, value, engine.state.iteration)
        self.rows.append({"epoch": engine.state.epoch, "iteration": engine.state.iteration, **values})

    def write_table(self, engine: Engine) -> None:
        """Appends what was recorded since the last call to the CSV file; a new run starts it anew."""
        if not self.rows:
            return
        path = self.output_dir / "scalars.csv"
        first = self.rows[0]["iteration"] <= self.interval or not path.exists()
        with open(path, "w" if first else "a", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, fieldnames=list(self.rows[0]), lineterminator="\n")
            if first:
                table.writeheader()
            table.writerows(self.rows)
        self.rows = []

    def close(self, engine: Engine) -> None:
        """Closes the event file."""
        if self.writer is not None:
            self.writer.close()
