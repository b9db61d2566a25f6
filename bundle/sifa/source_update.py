"""One iteration without adaptation: E and C learn from source images as they are (also: supervised on target)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine
from monai.engines import IterationEvents
from torch.optim import Optimizer

from sifa.keys import LossTerms, SIFAKeys
from sifa.losses import SegmentationLoss
from sifa.networks import Segmenter


class SourceUpdate:
    """`iteration_update` of a `monai.engines.Trainer`: Eq. 3 on C(E(x_s)) against y_s, and nothing else.

    Args:
        segmenter: C(E(.)).
        optimizer: the optimizer of E and C.
        segmentation_loss: Eq. 3.
    """

    def __init__(self, segmenter: Segmenter, optimizer: Optimizer, segmentation_loss: SegmentationLoss) -> None:
        self.segmenter = segmenter
        self.optimizer = optimizer
        self.segmentation_loss = segmentation_loss

    def __call__(self, engine: Engine, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one iteration on `source_image` (B, C, H, W) and `source_label` (B, 1, H, W)."""
        state: Any = engine.state
        self.segmenter.train()
        logits = self.segmenter(batchdata["source_image"].to(state.device))
        loss = self.segmentation_loss(logits, batchdata["source_label"].to(state.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        state.output = {
            str(SIFAKeys.LOSS): loss.detach(),
            "segmenter_loss": loss.detach(),
            str(LossTerms.SEGMENTATION): loss.detach(),
            str(SIFAKeys.PRED): logits.detach(),
        }
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return state.output
