"""The inferer of a MONAI Label server: masks that carry the predicted Dice of their structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.slice_segmenter import SliceSegmenter, on_grid_of
from sifa.quality_control.calibration import NAME as CALIBRATION
from sifa.quality_control.dice_predictor import DicePredictor
from sifa.utils.files import hash_of_file

PREDICTION = "predicted_dice"  # key in the metadata of a mask


class PredictingInferer(Inferer):
    """Segments scans, and predicts Dice where `calibration.json` lies beside the weights in use.

    The calibration is read for each scan, since weights and calibration may be exchanged while a server runs.

    Args:
        inferer: makes the masks.
        folder: of `model.pt`.
        fingerprint: of the network.
        trust: `fast`, `full` or `none`; see `DicePredictor`.
    """

    def __init__(
        self, inferer: SliceSegmenter, folder: str | Path, fingerprint: Fingerprint, trust: str | None = "fast"
    ) -> None:
        super().__init__()
        self.inferer = inferer
        self.folder = Path(folder)
        self.fingerprint = fingerprint
        self.trust = trust

    @classmethod
    def from_fingerprint(
        cls, fingerprint: Fingerprint, folder: str | Path, trust: str | None = "fast", **settings: Any
    ) -> PredictingInferer:
        """Returns an inferer that prepares scans as the fingerprint says.

        Args:
            fingerprint: of the network.
            folder: of `model.pt`.
            trust: `fast`, `full` or `none`.
            **settings: other arguments of `SliceSegmenter.from_fingerprint`.
        """
        return cls(SliceSegmenter.from_fingerprint(fingerprint, **settings), folder, fingerprint, trust)

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Segments a scan (1, C, X, Y, Z) with an affine: labels (1, 1, X, Y, Z), uint8, on the same grid and device.

        The metadata of the labels hold the prediction, if there is one: by structure `predicted_dice`, `low`, `high`
        and `flags`; doubts about the prediction; the lowest predicted Dice; the SHA-256 of the calibration.

        Raises:
            InputError: when the calibration is damaged or belongs to other weights, or the scan cannot be segmented.
        """
        predictor = DicePredictor(self.trust, [self.folder], network, self.inferer, self.fingerprint)
        calibration = hash_of_file(self.folder / CALIBRATION) if predictor.name else ""
        segmentation = self.inferer.check_and_segment(inputs, network)
        predicted = predictor(inputs[0], segmentation, inputs.device)
        labels: Any = on_grid_of(inputs, segmentation.labels)
        if structures := predicted.structures:
            prediction = {
                "quality": {name: {**figures, "flags": flags} for name, (figures, flags) in structures.items()},
                "doubts": [*predicted.doubts, *predicted.remarks],
                "lowest_predicted_dice": min(figures["predicted_dice"] for figures, _ in structures.values()),
                "calibration_sha256": calibration,
            }
            labels.meta = {**labels.meta, PREDICTION: prediction}
        return labels
