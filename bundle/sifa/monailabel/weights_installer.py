"""Training from MONAI Label: installation of the new weights."""

from __future__ import annotations

import logging
import shutil
from datetime import datetime, timezone
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from sifa.quality_control.calibration import NAME as CALIBRATION
from sifa.training.model_files import save_state
from sifa.utils.distributed import is_main_process
from sifa.utils.errors import InputError

logger = logging.getLogger(__name__)


class WeightsInstaller:
    """Installs the segmenter's weights when training is complete and keeps the previous ones.

    A calibration of the previous weights is moved to them, since it belongs to no others.

    Args:
        segmenter: C(E(.)).
        model_dir: folder of the `model.pt` and `fingerprint.json` in use; only the first is replaced.
        earlier_dir: folder in which the previous pair is kept, in a subfolder named by the time.
        enabled: whether to install the weights at all.
    """

    def __init__(self, segmenter: nn.Module, model_dir: str | Path, earlier_dir: str | Path, enabled: bool) -> None:
        self.segmenter = segmenter
        self.model_dir = Path(model_dir)
        self.earlier_dir = Path(earlier_dir)
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Registers `install` for the end of `engine`'s run, on the main process."""
        if self.enabled and is_main_process():
            engine.add_event_handler(Events.COMPLETED, self.install)

    def install(self, engine: Engine) -> None:
        """Copies the pair in use to `earlier_dir` and replaces its weights.

        Raises:
            InputError: when training diverged; the weights in use are then kept.
        """
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self.segmenter.state_dict().values()):
            raise InputError("training diverged (weights are not finite), so those in use are kept: train again.")
        earlier = self.earlier_dir / datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
        earlier.mkdir(parents=True)
        for name in ("model.pt", "fingerprint.json"):
            shutil.copy2(self.model_dir / name, earlier / name)
        calibration = self.model_dir / CALIBRATION
        is_calibrated = calibration.is_file()
        if is_calibrated:
            shutil.copy2(calibration, earlier / CALIBRATION)
        save_state(self.segmenter, self.model_dir / "model.pt")
        calibration.unlink(missing_ok=True)
        logger.info("the new weights are in use; the previous ones are kept in %s", earlier)
        if is_calibrated:
            logger.warning(
                "no Dice is predicted with the new weights: %s belongs to the previous ones and is kept with them; run "
                "calibrating for the new ones",
                CALIBRATION,
            )
