"""Predicted Dice of each structure of a scan, in inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.ensemble import NetworkAverage
from sifa.inference.results import PredictedDice, Segmentation, prediction_clause
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.quality_control.calibration import NAME, read_calibration
from sifa.quality_control.monotone_fit import EMPTY, needed_signals, predict
from sifa.quality_control.resemblance import pool_latents
from sifa.quality_control.signal_meter import SIGNALS, SLICES, SignalMeter
from sifa.utils.errors import InputError, UsageError
from sifa.utils.files import hash_of_file

UNKNOWN = "this scan lies outside of all that calibration has seen"


class DicePredictor:
    """Predicts Dice from signals with the `calibration.json` beside a model; does nothing where there is none.

    Args:
        trust: `fast`: one more inference; `full`: three more where random appearance told more in calibration; `none`:
            no prediction.
        folders: of the models; several models in one run have no calibration.
        network: C(E(.)) with its batch norm, or its average over flips, in evaluation mode.
        inferer: that makes the masks.
        fingerprint: of the network.

    Raises:
        UsageError: when `trust` is none of these.
        InputError: when the calibration is of another model, or `full` is asked for without one.
    """

    def __init__(
        self,
        trust: str | None,
        folders: Sequence[Path],
        network: nn.Module,
        inferer: SliceSegmenter,
        fingerprint: Fingerprint,
    ) -> None:
        if trust not in (None, "none", *SIGNALS):
            raise UsageError(f"--trust {trust}: choose {', '.join(SIGNALS)} or none.")
        path = Path(folders[0]) / NAME
        there = len(folders) == 1 and path.is_file()
        if trust == "full" and not there:
            raise InputError(f"{path}: there is no calibration: run calibrating for this one model first.")
        self.name = ""  # among the names of the run's extras; empty: nothing is predicted
        if not there or trust in (None, "none"):
            return
        self.network = network
        self.calibration = read_calibration(path.parent)
        self.fitted = self.calibration.fits[str(trust)]
        self.meter = SignalMeter(inferer, fingerprint, needed_signals(self.fitted))
        self.name = f"DicePredictor {trust} {hash_of_file(path)[:8]}"

    def __call__(self, volume: torch.Tensor, segmentation: Segmentation, device: str | torch.device) -> PredictedDice:
        """Returns what is predicted of a scan.

        Args:
            volume: intensities (C, X, Y, Z) with an affine.
            segmentation: as the inferer returned it.
            device: where the network runs.
        """
        if not self.name:
            return PredictedDice({}, [])
        slices = self.meter.inferer.sample_slices(volume, SLICES, device)
        doubt = self.calibration.resemblance.doubt or ("" if self._is_known(slices) else UNKNOWN)
        predicted = {}
        values = {name: value for value, name in self.meter.fingerprint.structure_names.items()}
        voxels = np.bincount(segmentation.labels.numpy().ravel(), minlength=len(values) + 1)
        for name, signals in self.meter.measure(volume, slices, segmentation, self.network, device).items():
            found = predict(self.fitted, signals, bool(doubt)) if voxels[values[name]] else EMPTY
            figures = dict(zip(("predicted_dice", "low", "high"), (round(number, 3) for number in found), strict=True))
            flags = [prediction_clause(figures)] if figures["predicted_dice"] < self.fitted.threshold else []
            predicted[name] = (figures, flags)
        return PredictedDice(predicted, [f"predicted Dice: {doubt}, intervals are wider"] if doubt else [])

    def _is_known(self, slices: torch.Tensor) -> bool:
        """Returns whether the scan lies where those of calibration and of training do."""
        if not len(slices):
            return False
        network: Any = self.network.networks[0] if isinstance(self.network, NetworkAverage) else self.network
        latents = pool_latents(network, slices, self.meter.inferer.windows_at_once)
        return self.calibration.latents.holds(latents)
