"""MONAI Label: training from its studies, and predicted Dice in its replies."""

from sifa.monailabel.predicting_inferer import PredictingInferer
from sifa.monailabel.prediction_to_reply import PredictionToReplyd
from sifa.monailabel.studies import studies_slices
from sifa.monailabel.weights_installer import WeightsInstaller

__all__ = ["PredictingInferer", "PredictionToReplyd", "WeightsInstaller", "studies_slices"]
