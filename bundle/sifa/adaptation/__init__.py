"""Methods of adaptation, one file each, and what they share."""

from sifa.adaptation.field_of_view import FieldOfView
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.model_selection import ModelSelectionScore
from sifa.adaptation.optimizers import adam_optimizers
from sifa.adaptation.self_training import SelfTraining, expected_frequencies
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_networks import SIFANetworks
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from sifa.adaptation.source_only import SourceOnly
from sifa.adaptation.target_statistics import TargetStatistics

__all__ = [
    "SIFA",
    "FieldOfView",
    "ImagePool",
    "ModelSelectionScore",
    "SIFANetworks",
    "SIFASimultaneous",
    "SegmentationLoss",
    "SelfTraining",
    "SourceOnly",
    "TargetStatistics",
    "adam_optimizers",
    "expected_frequencies",
]
