"""Predicted Dice of each structure of a scan, in inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

FAR = "predicted Dice: calibration does not resemble this scan, so intervals are wider"


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
        if len(self.calibration.latents.mean) != 2 * _one_of(network).encoder.out_channels:
            raise InputError(f"{path}: its latents are not those of this network: run calibrating for this model.")
        doubt = self.calibration.resemblance.doubt
        self.remarks = [f"predicted Dice: {doubt}, so intervals are wider"] if doubt else []
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
            return PredictedDice({}, [], [])
        slices = self.meter.inferer.sample_slices(volume, SLICES, device)
        is_far = not self._is_near(slices)
        signals = self.meter.measure(volume, slices, segmentation, self.network, device)
        cautiously = is_far or bool(self.remarks)
        predicted = {}
        for name in self.meter.fingerprint.structure_names.values():
            found = predict(self.fitted, signals[name], cautiously) if name in signals else EMPTY
            figures = dict(zip(("predicted_dice", "low", "high"), (round(number, 3) for number in found), strict=True))
            flags = [prediction_clause(figures)] if figures["predicted_dice"] < self.fitted.threshold else []
            predicted[name] = (figures, flags)
        return PredictedDice(predicted, [FAR] if is_far else [], self.remarks)

    def _is_near(self, slices: torch.Tensor) -> bool:
        """Returns whether the scan lies where those of calibration and of training do."""
        if not len(slices):
            return False
        latents = pool_latents(_one_of(self.network), slices, self.meter.inferer.windows_at_once)
        return self.calibration.latents.holds(latents)


def _one_of(network: nn.Module) -> Any:
    """Returns the network itself, or of an average over flips."""
    return network.networks[0] if isinstance(network, NetworkAverage) else network
