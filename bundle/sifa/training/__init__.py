"""What every training needs, whatever its method."""

from sifa.training.checkpoint import TrainingState, state_to_resume
from sifa.training.initial_weights import InitialWeights, initial_fingerprint
from sifa.training.iteration_update import IterationUpdate
from sifa.training.mixed_precision import MixedPrecision
from sifa.training.model_files import save_model
from sifa.training.weight_average import WeightAverage

__all__ = [
    "InitialWeights",
    "IterationUpdate",
    "MixedPrecision",
    "TrainingState",
    "WeightAverage",
    "initial_fingerprint",
    "save_model",
    "state_to_resume",
]
