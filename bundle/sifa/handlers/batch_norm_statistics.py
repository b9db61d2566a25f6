"""Batch norm's running statistics of the segmenter that is exported, measured before it is used or written."""

from __future__ import annotations

from ignite.engine import Engine, Events

from sifa.adaptation.target_statistics import TargetStatistics
from sifa.networks import Segmenter


class BatchNormStatistics:
    """Measures the running statistics on target slices at the end of each epoch.

    It comes before the handlers that validate and save. Every process measures, on the same slices.

    Args:
        statistics: how to measure them.
        segmenter: the network that is exported.
    """

    def __init__(self, statistics: TargetStatistics, segmenter: Segmenter) -> None:
        self.statistics = statistics
        self.segmenter = segmenter

    def attach(self, engine: Engine) -> None:
        """Listens to the epochs of `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.measure)

    def measure(self) -> None:
        """Puts the statistics into the segmenter."""
        self.statistics.measure(self.segmenter)
