"""Which target slices training draws."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from torch import nn

from sifa.distributed import is_main_process
from sifa.field_of_view import FieldOfView
from sifa.unpaired import UnpairedSampler

logger = logging.getLogger(__name__)


class MatchedFieldOfView:
    """Lets the sampler draw, after each epoch anew, the target slices that show what the source's scans show.

    In the first epoch all are drawn. Every process finds them, with the same weights, so they are the same.

    Args:
        field_of_view: how to find them.
        segmenter: the network that is exported, its batch norm's statistics measured before.
        sampler: of the training data.
    """

    def __init__(self, field_of_view: FieldOfView, segmenter: nn.Module, sampler: UnpairedSampler) -> None:
        self.field_of_view = field_of_view
        self.segmenter = segmenter
        self.sampler = sampler

    def attach(self, engine: Engine) -> None:
        """Listens to the epochs of `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.match)

    def match(self) -> None:
        """Tells the sampler."""
        self.sampler.target_slices = self.field_of_view.find(self.segmenter)
        if is_main_process():
            number, total = len(self.sampler.target_slices), len(self.field_of_view.target)
            logger.info("%d of %d target slices lie within the source's field of view", number, total)
