"""One iteration without adaptation: E and C learn from source images as they are (also: supervised on target)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation.losses import SegmentationLoss
from sifa.networks import Segmenter
from sifa.training.checkpoint import load_optimizer
from sifa.training.mixed_precision import MixedPrecision
from sifa.training.weight_average import WeightAverage
from sifa.utils.distributed import mean_over_processes
from sifa.utils.keys import LossTerms, SIFAKeys


class SourceUpdate:
    """`iteration_update` of a `monai.engines.Trainer`: Eq. 3 on C(E(x_s)) against y_s, and nothing else.

    Args:
        segmenter: C(E(.)).
        optimizer: the optimizer of E and C.
        segmentation_loss: Eq. 3.
        precision: what the segmenter computes in; None: float32.
        average: takes up the segmenter's weights after each iteration; None: nothing does.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        optimizer: Optimizer,
        segmentation_loss: SegmentationLoss,
        precision: MixedPrecision | None = None,
        average: WeightAverage | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.optimizer = optimizer
        self.segmentation_loss = segmentation_loss
        self.precision = precision or MixedPrecision()
        self.average = average
        self.forward = self.precision.forward(segmenter)

    def __call__(self, engine: Engine, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one iteration on `source_image` (B, C, H, W) and `source_label` (B, 1, H, W)."""
        state: Any = engine.state
        self.segmenter.train()
        logits = self.forward(batchdata["source_image"].to(state.device, non_blocking=True))
        loss = self.segmentation_loss(logits, batchdata["source_label"].to(state.device, non_blocking=True))
        report = self.precision.descend("segmenter", self.optimizer, loss)
        self.precision.end_iteration()
        if self.average is not None:
            self.average.update()
        scalars = {str(SIFAKeys.LOSS): loss, str(LossTerms.SEGMENTATION): loss, **report}
        state.output = {
            **mean_over_processes({name: value.detach() for name, value in scalars.items()}, state.device),
            str(SIFAKeys.PRED): logits.detach(),
        }
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return state.output

    def modules(self) -> list[nn.Module]:
        """Returns the networks that train."""
        return [self.segmenter]

    def state_dict(self) -> dict[str, Any]:
        """Returns all that training changes: weights, optimizer, scale of the gradients."""
        return {
            "networks": {"segmenter": self.segmenter.state_dict()},
            "optimizers": {"segmenter": self.optimizer.state_dict()},
            "precision": self.precision.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up again what `state_dict` returned."""
        self.segmenter.load_state_dict(state["networks"]["segmenter"])
        load_optimizer(self.optimizer, state["optimizers"]["segmenter"])
        self.precision.load_state_dict(state["precision"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def process_state_dict(self) -> dict[str, Any]:
        """Returns what each process has of its own: nothing."""
        return {}

    def load_process_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up nothing, as `process_state_dict` returned nothing."""
