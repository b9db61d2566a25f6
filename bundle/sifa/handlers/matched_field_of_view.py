"""Restricts the target slices that training draws to the source's field of view."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from torch import nn

from sifa.adaptation.field_of_view import FieldOfView
from sifa.data.unpaired_slices import UnpairedSampler
from sifa.utils.distributed import broadcast_object, is_main_process

logger = logging.getLogger(__name__)


class MatchedFieldOfView:
    """After each epoch, selects the target slices that show what the source's scans show, for the sampler to draw.

    In the first epoch all target slices are drawn. The main process selects them for all processes.

    Args:
        field_of_view: how to select them.
        segmenter: the network that is exported.
        sampler: of the training data.
    """

    def __init__(self, field_of_view: FieldOfView, segmenter: nn.Module, sampler: UnpairedSampler) -> None:
        self.field_of_view = field_of_view
        self.segmenter = segmenter
        self.sampler = sampler

    def attach(self, engine: Engine) -> None:
        """Selects at the end of each epoch of `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.match)

    def match(self) -> None:
        """Selects the slices and passes them to the sampler."""
        found = self.field_of_view.find(self.segmenter) if is_main_process() else None
        self.sampler.target_slices = broadcast_object(found)
        if is_main_process():
            number, total = len(self.sampler.target_slices), len(self.field_of_view.target)
            logger.info("%d of %d target slices lie within the source's field of view", number, total)
