"""Training from MONAI Label."""

from sifa.monailabel.studies import studies_slices
from sifa.monailabel.weights_installer import WeightsInstaller

__all__ = ["WeightsInstaller", "studies_slices"]
