"""Source-free adaptation: a trained segmenter adapts to target images alone, by self-training and their statistics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation.loss_weights import Columns, LossWeights, by_name
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.segmenter_terms import SegmenterTerms
from sifa.adaptation.self_training import SelfTraining
from sifa.networks import Segmenter
from sifa.training.iteration_update import Batch, Stateful, present
from sifa.training.mixed_precision import MixedPrecision
from sifa.utils.keys import LossTerms, SIFAKeys

TERMS = {"segmenter": (LossTerms.SELF_TRAINING, LossTerms.TARGET_SEGMENTATION)}


class SourceFree:
    """Updates E + C on target images alone: Eq. 3 on views of x_t with the labels of the weight average.

    For sites that have target images and a trained network, and no access to the source images, which a hospital may
    not be allowed to share. The network starts from the trained one. The running batch-norm statistics of E describe
    target images from the first iteration on (AdaBN, Li et al., 2016). The weight average labels x_t (mean teacher,
    Tarvainen and Valpola, 2017), PAMR moves its outlines to edges, and the shares of the classes are aligned with those
    in the labels of the source, which the fingerprint of the trained network holds; see `sifa.adaptation.SelfTraining`.
    Class-ratio priors for source-free segmentation are due to Bateson et al. (Medical Image Analysis 2022).

    Args:
        segmenter: C(E(.)), with the weights of the trained network.
        optimizer: the optimizer of E and C.
        loss_weights: the column `segmenter` of the weight matrix.
        segmentation_loss: Eq. 3 of SIFA.
        self_training: labels target images.
        precision: the precision that the segmenter computes in; None: float32.

    Raises:
        InputError: when `loss_weights` names a module or term that the method does not have.
    """

    name = "source_free"

    def __init__(
        self,
        segmenter: Segmenter,
        optimizer: Optimizer,
        loss_weights: Columns,
        segmentation_loss: SegmentationLoss,
        self_training: SelfTraining,
        precision: MixedPrecision | None = None,
    ) -> None:
        self.networks: Mapping[str, nn.Module] = {"segmenter": segmenter}
        self.frozen: Mapping[str, nn.Module] = {}
        self.optimizers = {"segmenter": optimizer}
        self.shared_state: Mapping[str, Stateful] = present(self_training=self_training)
        self.process_state: Mapping[str, Stateful] = {}
        self.loss_weights = LossWeights(loss_weights, TERMS)
        self.precision = precision or MixedPrecision()
        self.segment = self.precision.forward(segmenter)
        self.segmenter_terms = SegmenterTerms(
            segmenter, self.loss_weights, segmentation_loss, self.precision, self_training
        )

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Updates E and C; see `sifa.training.iteration_update.Method`."""
        with torch.no_grad():
            target_logits = self.segment(batch.target_image)  # the pass that updates the running statistics
        terms = self.segmenter_terms(batch, epoch)
        loss = self.loss_weights.total("segmenter", terms, epoch)
        report = self.precision.step("segmenter", self.optimizers["segmenter"], loss)
        return {
            **by_name(terms),
            **report,
            **self.loss_weights.scheduled(epoch),
            SIFAKeys.LOSS: loss,
            SIFAKeys.PRED: target_logits,
        }
