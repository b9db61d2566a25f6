"""Methods of adaptation, one file each, and what they share."""

from sifa.adaptation.field_of_view import FieldOfView
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.loss_weights import LossWeights
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.model_selection import LabelFreeScore
from sifa.adaptation.self_training import SelfTraining, expected_frequencies
from sifa.adaptation.sifa import AdversarialUpdate, Networks
from sifa.adaptation.sifa_simultaneous import SimultaneousUpdate
from sifa.adaptation.source_only import SourceUpdate
from sifa.adaptation.target_statistics import TargetStatistics

__all__ = [
    "AdversarialUpdate",
    "FieldOfView",
    "ImagePool",
    "LabelFreeScore",
    "LossWeights",
    "Networks",
    "SegmentationLoss",
    "SelfTraining",
    "SimultaneousUpdate",
    "SourceUpdate",
    "TargetStatistics",
    "expected_frequencies",
]
