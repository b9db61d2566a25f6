"""Which target slices training draws."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from torch import nn

from sifa.adaptation.field_of_view import FieldOfView
from sifa.data.unpaired_slices import UnpairedSampler
from sifa.utils.distributed import broadcast_object, is_main_process

logger = logging.getLogger(__name__)


class MatchedFieldOfView:
    """Lets the sampler draw, after each epoch anew, the target slices that show what the source's scans show.

    In the first epoch all are drawn. The main process finds them for all.

    Args:
        field_of_view: how to find them.
        segmenter: the network that is exported.
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
        found = self.field_of_view.find(self.segmenter) if is_main_process() else None
        self.sampler.target_slices = broadcast_object(found)
        if is_main_process():
            number, total = len(self.sampler.target_slices), len(self.field_of_view.target)
            logger.info("%d of %d target slices lie within the source's field of view", number, total)
