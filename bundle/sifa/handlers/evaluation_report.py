"""All metrics of a paper, measured while an evaluator runs: tables, files and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from tqdm import tqdm

from sifa.handlers.results_table import name_of_volume, short_names
from sifa.metrics.metric_list import ASSD_MM, ASSD_VOXELS, DICE
from sifa.metrics.results import Results
from sifa.metrics.structure_metrics import LabelMap, measure_case
from sifa.metrics.summary import Bootstrap
from sifa.reports.results_files import write_results
from sifa.reports.results_screen import print_results
from sifa.utils.files import hash_of_file

SHOWN = (DICE, ASSD_VOXELS, ASSD_MM)  # on the terminal, which is narrow


class EvaluationReport:
    """Measures each volume of an evaluator and writes `results.*` at the end of its epoch; see `write_results`.

    A terminal shows a bar of the volumes with the time left.

    Args:
        output_dir: folder of the files.
        structures: names of the structures by label value, without the background.
        pairs: maps `engine.state.output` to predictions and truths, lists of label maps (1, X, Y, Z); predictions know
            their affine.
        tolerance_mm: of the normalized surface Dice.
        resamples: of the bootstrap over cases.
        seed: of the bootstrap.
        weights: the `model.pt` that makes the predictions, whose SHA-256 is noted; None: none is noted.
    """

    def __init__(
        self,
        output_dir: str | Path,
        structures: Mapping[int, str],
        pairs: Callable[[Any], Any],
        tolerance_mm: float = 2.0,
        resamples: int = 10000,
        seed: int = 0,
        weights: str | Path | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.structures = structures
        self.pairs = pairs
        self.tolerance_mm = tolerance_mm
        self.bootstrap = Bootstrap(resamples, seed)
        self.weights = None if weights is None else Path(weights)
        self.weights_sha256: str | None = None
        self.volumes: list[str] = []
        self.rows: list[Mapping[str, list[float]]] = []
        self.bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Measures while `engine` runs and writes at the end of its epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.measure)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Drops the volumes of the previous epoch, notes which weights are measured and opens the bar."""
        self.volumes, self.rows = [], []
        self.weights_sha256 = None if self.weights is None else hash_of_file(self.weights)
        self.bar = tqdm(total=engine.state.epoch_length, desc="scans", unit="scan", disable=None)

    def measure(self, engine: Engine) -> None:
        """Measures the volumes of this iteration."""
        batch: Any = engine.state.batch
        self.volumes.extend(name_of_volume(item) for item in batch)
        for pred, truth in zip(*self.pairs(engine.state.output), strict=True):
            spacing = nib.affines.voxel_sizes(_affine(pred))
            values = sorted(self.structures)
            self.rows.append(measure_case(_label_map(pred), _label_map(truth), values, spacing, self.tolerance_mm))
        if self.bar is not None:
            self.bar.update()

    def write(self, engine: Engine) -> None:
        """Prints the table and writes all files.

        Raises:
            InputError: when they cannot be written.
        """
        if self.bar is not None:
            self.bar.close()
        measured = dict(zip(short_names(self.volumes), self.rows, strict=True))
        results = Results.of_cases(measured, self.structures, self.tolerance_mm, weights_sha256=self.weights_sha256)
        print_results(results, "results", SHOWN)
        write_results(results, self.output_dir, self.tolerance_mm, self.bootstrap)


def _affine(pred: torch.Tensor) -> Any:
    if not isinstance(pred, MetaTensor):
        raise ValueError("distances in mm need a prediction with an affine (a MetaTensor).")
    return pred.affine.numpy(force=True)


def _label_map(labels: torch.Tensor) -> LabelMap:
    return labels[0].numpy(force=True).astype(np.uint16)
