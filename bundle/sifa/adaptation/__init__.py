"""Methods of adaptation, one file each, and what they share."""

from sifa.adaptation.accuracy_gate import AccuracyGate
from sifa.adaptation.adda import ADDA
from sifa.adaptation.cycada import CyCADA
from sifa.adaptation.cyclegan import CycleGAN
from sifa.adaptation.dann import DANN
from sifa.adaptation.field_of_view import FieldOfView
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.masks_alone import MasksAlone
from sifa.adaptation.model_selection import ModelSelectionScore
from sifa.adaptation.optimizers import adam_optimizers, rmsprop_optimizers
from sifa.adaptation.pnp_adanet import PnPAdaNet
from sifa.adaptation.self_training import SelfTraining, expected_frequencies
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_networks import SIFANetworks
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from sifa.adaptation.source_free import SourceFree
from sifa.adaptation.source_only import SourceOnly
from sifa.adaptation.target_statistics import TargetStatistics

__all__ = [
    "ADDA",
    "DANN",
    "SIFA",
    "AccuracyGate",
    "CyCADA",
    "CycleGAN",
    "FieldOfView",
    "ImagePool",
    "MasksAlone",
    "ModelSelectionScore",
    "PnPAdaNet",
    "SIFANetworks",
    "SIFASimultaneous",
    "SegmentationLoss",
    "SelfTraining",
    "SourceFree",
    "SourceOnly",
    "TargetStatistics",
    "adam_optimizers",
    "expected_frequencies",
    "rmsprop_optimizers",
]
