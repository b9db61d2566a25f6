"""Results per volume and structure: a table on the terminal, a CSV and a JSON file."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sifa.utils.distributed import is_main_process
from sifa.utils.files import write_json, write_text, writing


class ResultsTable:
    """Writes the results of an evaluator's metrics at the end of each of its epochs.

    Files: `<output_dir>/<name>.csv`, a row per volume and structure; `<output_dir>/<name>.json`, the same with means,
    standard deviations and counts of missing values (`n/a`: the prediction or the truth is empty).

    When several processes train, each evaluates all volumes, and the metrics gather the rows of all processes in
    order; the main process writes its own, which come first.

    Args:
        output_dir: folder of the files.
        structures: names of the structures by value, without the background.
        metrics: name in `engine.state.metric_details` (volumes, structures) to its column heading.
        name: name of the files.
        percent: metrics in [0, 1] that are written in percent.
    """

    def __init__(
        self,
        output_dir: str | Path,
        structures: Mapping[int, str],
        metrics: Mapping[str, str],
        name: str = "results",
        percent: Sequence[str] = ("mean_dice",),
    ) -> None:
        self.output_dir = Path(output_dir)
        self.structures = [structures[value] for value in sorted(structures)]
        self.metrics = metrics
        self.name = name
        self.percent = percent
        self.volumes: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Collects names of volumes while `engine` runs and writes at the end of its epoch."""
        if is_main_process():
            engine.add_event_handler(Events.EPOCH_STARTED, self.start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Drops the volumes of the previous epoch."""
        self.volumes = []

    def collect(self, engine: Engine) -> None:
        """Collects the names of the volumes of this iteration."""
        batch: Any = engine.state.batch
        self.volumes.extend(str(item["image"].meta["filename_or_obj"]) for item in batch)

    def write(self, engine: Engine) -> None:
        """Prints the table and writes both files.

        Raises:
            InputError: when they cannot be written.
        """
        state: Any = engine.state
        values = {metric: self._own_rows(metric, state.metric_details[metric]) for metric in self.metrics}
        names = short_names(self.volumes)
        Console().print(self._table(names, values))
        with writing(self.output_dir / self.name):
            write_text(self.output_dir / f"{self.name}.csv", self._csv(names, values))
            write_json(self.output_dir / f"{self.name}.json", self.summary(names, values))

    def _own_rows(self, metric: str, details: torch.Tensor) -> np.ndarray:
        """Returns the values (volumes, structures) of this process's volumes."""
        rows = details[: len(self.volumes)].numpy(force=True).astype(float)
        return rows * 100 if metric in self.percent else rows

    def summary(self, names: Sequence[str], values: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns the content of the JSON file.

        Args:
            names: the volumes.
            values: metric to values (volumes, structures), NaN where not available.
        """
        return {
            "volumes": list(names),
            "metrics": {
                metric: {
                    "heading": self.metrics[metric],
                    "mean": _number(_mean([_mean(column) for column in table.T])),
                    "structures": {
                        structure: {
                            "mean": _number(_mean(column)),
                            "std": _number(_std(column)),
                            "not_available": int(np.isnan(column).sum()),
                            "volumes": [_number(value) for value in column],
                        }
                        for structure, column in zip(self.structures, table.T, strict=True)
                    },
                }
                for metric, table in values.items()
            },
        }

    def _table(self, names: Sequence[str], values: Mapping[str, np.ndarray]) -> Table:
        table = Table(title=self.name, caption="n/a: the prediction or the truth lacks the structure")
        table.add_column("volume")
        table.add_column("structure")
        for heading in self.metrics.values():
            table.add_column(heading, justify="right")
        for row, name in enumerate(names):
            for column, structure in enumerate(self.structures):
                table.add_row(
                    escape(name), escape(structure), *(_text(values[metric][row, column]) for metric in self.metrics)
                )
        table.add_section()
        for column, structure in enumerate(self.structures):
            table.add_row(
                "mean", escape(structure), *(_mean_text(values[metric][:, column]) for metric in self.metrics)
            )
        table.add_row(
            "mean", "all", *(_text(_mean([_mean(part) for part in values[metric].T])) for metric in self.metrics)
        )
        return table

    def _csv(self, names: Sequence[str], values: Mapping[str, np.ndarray]) -> str:
        stream = StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["volume", "structure", *self.metrics])
        for row, name in enumerate(names):
            for column, structure in enumerate(self.structures):
                writer.writerow([name, structure, *(_text(values[metric][row, column], 6) for metric in self.metrics)])
        return stream.getvalue()


def short_names(paths: Sequence[str]) -> list[str]:
    """Returns names of files; with the folders below their common one if names repeat."""
    names = [Path(path).name for path in paths]
    if len(set(names)) == len(names):
        return names
    return [Path(path).relative_to(os.path.commonpath(paths)).as_posix() for path in paths]


def _mean(values: Sequence[float] | np.ndarray) -> float:
    measured = [value for value in values if not math.isnan(value)]
    return float(np.mean(measured)) if measured else math.nan


def _std(values: np.ndarray) -> float:
    measured = [value for value in values if not math.isnan(value)]
    return float(np.std(measured)) if measured else math.nan


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def _text(value: float, digits: int = 2) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _mean_text(values: np.ndarray) -> str:
    missing = int(np.isnan(values).sum())
    return _text(_mean(values)) + (f" ({missing} n/a)" if missing else "")
