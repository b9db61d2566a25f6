"""Training without adaptation: E and C learn from source images as they are (the same code trains supervised)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation.hidden_padding import hide_in_logits
from sifa.adaptation.losses import SegmentationLoss
from sifa.networks import Segmenter
from sifa.training.iteration_update import Batch, Stateful
from sifa.training.mixed_precision import MixedPrecision
from sifa.utils.keys import LossTerms, SIFAKeys


class SourceOnly:
    """Minimizes Eq. 3 on C(E(x_s)) against y_s. It does not use target images.

    Args:
        segmenter: C(E(.)).
        optimizer: the optimizer of E and C.
        segmentation_loss: Eq. 3.
        precision: the precision that the segmenter computes in; None: float32.
    """

    name = "source_only"

    def __init__(
        self,
        segmenter: Segmenter,
        optimizer: Optimizer,
        segmentation_loss: SegmentationLoss,
        precision: MixedPrecision | None = None,
    ) -> None:
        self.networks: Mapping[str, nn.Module] = {"segmenter": segmenter}
        self.frozen: Mapping[str, nn.Module] = {}
        self.optimizers = {"segmenter": optimizer}
        self.shared_state: Mapping[str, Stateful] = {}
        self.process_state: Mapping[str, Stateful] = {}
        self.segmentation_loss = segmentation_loss
        self.precision = precision or MixedPrecision()
        self.forward = self.precision.forward(segmenter)

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Updates E and C; see `sifa.training.iteration_update.Method`. `pred` is C(E(x_s)), (B, num_classes, H, W)."""
        logits = hide_in_logits(self.forward(batch.source_image), batch.inside)
        loss = self.segmentation_loss(logits, batch.source_label)
        report = self.precision.step("segmenter", self.optimizers["segmenter"], loss)
        return {str(LossTerms.SEGMENTATION): loss, **report, SIFAKeys.LOSS: loss, SIFAKeys.PRED: logits}
