"""Ignite handlers and metrics that the configs attach to trainer and evaluators."""

from sifa.handlers.epoch_means import EpochMeans
from sifa.handlers.model_saver import ModelSaver
from sifa.handlers.results_table import ResultsTable
from sifa.handlers.scalars import ScalarLog
from sifa.handlers.surface_distance import SurfaceDistance
from sifa.handlers.training_progress import TrainingProgress

__all__ = ["EpochMeans", "ModelSaver", "ResultsTable", "ScalarLog", "SurfaceDistance", "TrainingProgress"]
