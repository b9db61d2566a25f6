"""Ignite handlers and metrics that the configs attach to trainer and evaluators."""

from sifa.handlers.batch_norm_statistics import BatchNormStatistics
from sifa.handlers.epoch_means import EpochMeans
from sifa.handlers.evaluation_report import EvaluationReport
from sifa.handlers.handler_group import HandlerGroup
from sifa.handlers.image_grid import ImageGrid
from sifa.handlers.matched_field_of_view import MatchedFieldOfView
from sifa.handlers.model_saver import ModelSaver
from sifa.handlers.results_table import ResultsTable
from sifa.handlers.run_record import RunRecord
from sifa.handlers.scalars import ScalarLog
from sifa.handlers.state_loader import StateLoader
from sifa.handlers.state_saver import StateSaver
from sifa.handlers.surface_distance import SurfaceDistance
from sifa.handlers.training_progress import TrainingProgress
from sifa.handlers.training_report import TrainingReport
from sifa.handlers.training_watch import TrainingWatch
from sifa.handlers.validation_schedule import ValidationSchedule

__all__ = [
    "BatchNormStatistics",
    "EpochMeans",
    "EvaluationReport",
    "HandlerGroup",
    "ImageGrid",
    "MatchedFieldOfView",
    "ModelSaver",
    "ResultsTable",
    "RunRecord",
    "ScalarLog",
    "StateLoader",
    "StateSaver",
    "SurfaceDistance",
    "TrainingProgress",
    "TrainingReport",
    "TrainingWatch",
    "ValidationSchedule",
]
