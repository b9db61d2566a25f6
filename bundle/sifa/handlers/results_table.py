"""Results per volume and structure: a table on the terminal, a CSV and a JSON file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ignite.engine import Engine, Events

from sifa.metrics.results import Results, to_csv, to_json
from sifa.reports.results_screen import print_results
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
        self.volumes.extend(name_of_volume(item) for item in batch)

    def write(self, engine: Engine) -> None:
        """Prints the table and writes both files.

        Raises:
            InputError: when they cannot be written.
        """
        state: Any = engine.state
        values = {metric: self._own_rows(metric, state.metric_details[metric]) for metric in self.metrics}
        results = Results(short_names(self.volumes), self.structures, self.metrics, values)
        print_results(results, self.name)
        with writing(self.output_dir / self.name):
            write_text(self.output_dir / f"{self.name}.csv", to_csv(results))
            write_json(self.output_dir / f"{self.name}.json", to_json(results))

    def _own_rows(self, metric: str, details: torch.Tensor) -> npt.NDArray[np.float64]:
        """Returns the values (volumes, structures) of this process's volumes."""
        rows = details[: len(self.volumes)].numpy(force=True).astype(np.float64)
        return rows * 100 if metric in self.percent else rows


def name_of_volume(item: Mapping[str, Any]) -> str:
    """Returns the path of the image of a batch's item."""
    return str(item["image"].meta["filename_or_obj"])


def short_names(paths: Sequence[str]) -> list[str]:
    """Returns names of files; with the folders below their common one if names repeat."""
    names = [Path(path).name for path in paths]
    if len(set(names)) == len(names):
        return names
    return [Path(path).relative_to(os.path.commonpath(paths)).as_posix() for path in paths]
