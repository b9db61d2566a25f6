"""A strategy of active learning: the study whose segmentation is predicted to be the worst comes first."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.strategy import Strategy

NAME = "lowest_predicted_dice"  # of the strategy, and of the number in the information about a label


class LowestPredictedDice(Strategy):
    """Chooses the study without a final label whose lowest predicted Dice is the lowest.

    Predictions are those that the datastore keeps with labels of inference. Only those of the calibration beside the
    weights in use count, hence none of other weights. Studies without a prediction come after, by their names.

    Args:
        models: folder of the bundles that are served.
    """

    def __init__(self, models: Path) -> None:
        super().__init__("The study with the lowest predicted Dice")
        self.models = models

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Returns the study, and its lowest predicted Dice; None when all studies have a final label.

        Raises:
            MONAILabelException: when no study has a prediction; the sentence says what to do.
        """
        unlabeled = sorted(datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels")))
        if not unlabeled:
            return None
        calibrations = self.models.glob("*/models/calibration.json")
        in_use = [hashlib.sha256(path.read_bytes()).hexdigest() for path in calibrations]
        found = {image: _lowest(datastore, image, in_use) for image in datastore.list_images()}
        predicted = {image: dice for image, dice in found.items() if dice is not None}
        if not predicted:
            reason = (
                "the datastore keeps no mask of the weights and calibration in use: send POST /batch/infer/<model>"
                if in_use
                else "there is no calibration.json beside the weights in use: calibrate them (run calibrating)"
            )
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT, f"no Dice is predicted, since {reason}, or choose the strategy 'first'."
            )
        chosen = min(unlabeled, key=lambda image: predicted.get(image, math.inf))
        return {"id": chosen, **({NAME: predicted[chosen]} if chosen in predicted else {})}


def _lowest(datastore: Datastore, image: str, calibrations: Sequence[str]) -> float | None:
    """Returns the lowest predicted Dice of a study by one of these calibrations; None where there is none."""
    for tag, label in datastore.get_labels_by_image_id(image).items():
        reply = datastore.get_label_info(label, tag).get("params")
        if not isinstance(reply, dict) or reply.get("calibration_sha256") not in calibrations:
            continue
        dice = reply.get(NAME)
        if isinstance(dice, int | float) and math.isfinite(dice):
            return float(dice)
    return None
