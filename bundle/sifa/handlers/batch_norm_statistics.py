"""Batch norm statistics of the exported segmenter, measured at the end of each epoch."""

from __future__ import annotations

from ignite.engine import Engine, Events

from sifa.adaptation.target_statistics import TargetStatistics
from sifa.networks import Segmenter


class BatchNormStatistics:
    """Measures the running statistics on target slices at the end of each epoch.

    Attach it before the handlers that validate and save. Every process measures on the same slices.

    Args:
        statistics: how to measure them.
        segmenter: the network that is exported.
    """

    def __init__(self, statistics: TargetStatistics, segmenter: Segmenter) -> None:
        self.statistics = statistics
        self.segmenter = segmenter

    def attach(self, engine: Engine) -> None:
        """Measures at the end of each epoch of `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.measure)

    def measure(self) -> None:
        """Measures the statistics and stores them in the segmenter."""
        self.statistics.measure(self.segmenter)
