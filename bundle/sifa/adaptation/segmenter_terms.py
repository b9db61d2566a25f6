"""Loss terms that any method can add to the loss of its segmenter: views with a random appearance, labeled targets."""

from __future__ import annotations

from typing import TypeVar

import torch

from sifa.adaptation.hidden_padding import hide_in_label, hide_in_logits
from sifa.adaptation.loss_weights import LossWeights
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.self_training import SelfTraining
from sifa.networks import Segmenter
from sifa.networks.batch_norm import running_statistics_held
from sifa.training.iteration_update import Batch
from sifa.training.mixed_precision import MixedPrecision
from sifa.utils.errors import InputError
from sifa.utils.keys import LossTerms

T = TypeVar("T")

PREPARED_BY = {
    LossTerms.RANDOM_APPEARANCE: "recommended.yaml",
    LossTerms.SELF_TRAINING: "recommended.yaml",
    LossTerms.TARGET_SEGMENTATION: "labeled_target.yaml",
}

SEGMENTER_TERMS = (LossTerms.RANDOM_APPEARANCE, LossTerms.SELF_TRAINING, LossTerms.TARGET_SEGMENTATION)


class SegmenterTerms:
    """Eq. 3 for further images than those of the method itself.

    - `random_appearance`: the view of x_s with a random appearance, with y_s.
    - `self_training`: the view of x_t, with the labels that the weight average gives to x_t.
    - `target_segmentation`: slices of the few target scans that have labels, with these labels.

    Passes of these images leave the running batch-norm statistics of the segmenter unchanged.

    Args:
        segmenter: C(E(.)).
        loss_weights: of which the column `segmenter` counts.
        segmentation_loss: Eq. 3.
        precision: the precision that the segmenter computes in.
        self_training: labels x_t for the term `self_training`; None: the term has no weight.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        loss_weights: LossWeights,
        segmentation_loss: SegmentationLoss,
        precision: MixedPrecision,
        self_training: SelfTraining | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.loss_weights = loss_weights
        self.segmentation_loss = segmentation_loss
        self.forward = precision.forward(segmenter)
        self.self_training = self_training

    def __call__(self, batch: Batch, epoch: int) -> dict[LossTerms, torch.Tensor]:
        """Returns the terms that have a weight in this epoch, counted from 1; others cost nothing.

        Raises:
            InputError: when a term has a weight and the batch or the method lacks what it is computed from.
        """
        terms: dict[LossTerms, torch.Tensor] = {}
        if self.loss_weights.at("segmenter", LossTerms.RANDOM_APPEARANCE, epoch):
            view = _required(batch.source_view, LossTerms.RANDOM_APPEARANCE)
            terms[LossTerms.RANDOM_APPEARANCE] = self._loss(view, batch.source_label, batch.inside)
        if self.loss_weights.at("segmenter", LossTerms.SELF_TRAINING, epoch):
            view = _required(batch.target_view, LossTerms.SELF_TRAINING)
            label = _required(self.self_training, LossTerms.SELF_TRAINING).label(batch.target_image)
            terms[LossTerms.SELF_TRAINING] = self._loss(view, hide_in_label(label, batch.inside), batch.inside)
        if self.loss_weights.at("segmenter", LossTerms.TARGET_SEGMENTATION, epoch):
            image = _required(batch.labeled_target_image, LossTerms.TARGET_SEGMENTATION)
            label = _required(batch.labeled_target_label, LossTerms.TARGET_SEGMENTATION)
            terms[LossTerms.TARGET_SEGMENTATION] = self._loss(image, label, None)
        return terms

    def _loss(self, image: torch.Tensor, label: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
        with running_statistics_held(self.segmenter):
            return self.segmentation_loss(hide_in_logits(self.forward(image), inside), label)


def _required(part: T | None, term: LossTerms) -> T:
    if part is None:
        raise InputError(
            f"loss_weights#segmenter#{term.value} is not 0, but this config does not prepare what the term needs: "
            f"add {PREPARED_BY[term]}, which does, or set the weight to 0."
        )
    return part
