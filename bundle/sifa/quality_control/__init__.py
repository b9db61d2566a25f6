"""Quality control without labels: a predicted Dice for each structure, calibrated on imitated target scans."""

from sifa.quality_control.calibrating import calibrate, require_scans
from sifa.quality_control.dice_predictor import DicePredictor

__all__ = ["DicePredictor", "calibrate", "require_scans"]
