"""Quality control without labels: a predicted Dice for each structure, calibrated on imitated target scans."""

from sifa.quality_control.calibrating import calibrate
from sifa.quality_control.dice_predictor import DicePredictor
from sifa.quality_control.held_out import require_scans

__all__ = ["DicePredictor", "calibrate", "require_scans"]
