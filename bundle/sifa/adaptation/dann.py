"""DANN (Ganin et al., JMLR 2016): features that a discriminator cannot assign to a domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation.loss_weights import Columns, LossWeights, by_name
from sifa.adaptation.losses import SegmentationLoss, cross_entropy_discriminate
from sifa.adaptation.segmenter_terms import SEGMENTER_TERMS, SegmenterTerms
from sifa.adaptation.self_training import SelfTraining
from sifa.networks import Segmenter, TappedSegmenter
from sifa.networks.batch_norm import running_statistics_held
from sifa.training.iteration_update import Batch, Stateful, present
from sifa.training.mixed_precision import MixedPrecision
from sifa.utils.keys import LossTerms, SIFAKeys

TERMS = {"segmenter": (LossTerms.SEGMENTATION, LossTerms.FEATURE_ADVERSARIAL, *SEGMENTER_TERMS)}


class DANN:
    """Updates E + C and a domain discriminator D at once, as one step through a gradient reversal layer does.

    With the features z = E(x), (B, C', H / 8, W / 8), and the raw scores of D, one for each location:

        L_dom = 1/2 [mean softplus(D(z_s)) + mean softplus(-D(z_t))]      (source 0, target 1)
        E, C minimize  L_seg(C(z_s), y_s) - lambda L_dom,      D minimizes  L_dom

    `feature_adversarial` is -L_dom and its weight is lambda, which the paper raises as 2 / (1 + exp(-10 q)) - 1 with
    the share q of training that is done. The paper classifies images; there is no segmentation code of its authors.
    D is a classifier of single locations, as in later segmentation methods.

    The running batch-norm statistics of E describe target images only, since the exported segmenter sees nothing else.

    Args:
        segmenter: C(E(.)).
        feature_discriminator: D, from the tapped activations (B, C', H / 8, W / 8) to scores.
        optimizers: of `segmenter` (E and C) and `feature_discriminator`.
        loss_weights: the column `segmenter` of the weight matrix.
        segmentation_loss: Eq. 3 of SIFA, on source images.
        taps: the features; see `sifa.networks.TappedSegmenter`.
        precision: the precision that the networks compute in; None: float32.
        self_training: labels target images for the term `self_training`; None: the term has no weight.

    Raises:
        InputError: when `loss_weights` names a module or term that DANN does not have, or there is no such tap.
    """

    name = "dann"

    def __init__(
        self,
        segmenter: Segmenter,
        feature_discriminator: nn.Module,
        optimizers: Mapping[str, Optimizer],
        loss_weights: Columns,
        segmentation_loss: SegmentationLoss,
        taps: Sequence[str | int],
        precision: MixedPrecision | None = None,
        self_training: SelfTraining | None = None,
    ) -> None:
        self.networks: Mapping[str, nn.Module] = {
            "segmenter": segmenter,
            "feature_discriminator": feature_discriminator,
        }
        self.frozen: Mapping[str, nn.Module] = {}
        self.optimizers = {name: optimizers[name] for name in self.networks}
        self.shared_state: Mapping[str, Stateful] = present(self_training=self_training)
        self.process_state: Mapping[str, Stateful] = {}
        self.loss_weights = LossWeights(loss_weights, TERMS)
        self.segmentation_loss = segmentation_loss
        self.precision = precision or MixedPrecision()
        self.segmenter = segmenter
        self.segment = self.precision.forward(TappedSegmenter(segmenter, taps))
        self.discriminator = self.precision.forward(feature_discriminator)
        self.segmenter_terms = SegmenterTerms(
            segmenter, self.loss_weights, segmentation_loss, self.precision, self_training
        )

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Updates E + C and D; see `sifa.training.iteration_update.Method`."""
        with running_statistics_held(self.segmenter):
            source_logits, source_features = self.segment(batch.source_image)
        target_logits, target_features = self.segment(batch.target_image)
        terms = {
            LossTerms.SEGMENTATION: self.segmentation_loss(source_logits, batch.source_label),
            LossTerms.FEATURE_ADVERSARIAL: -self._domain_loss(source_features, target_features),
            **self.segmenter_terms(batch, epoch),
        }
        loss = self.loss_weights.total("segmenter", terms, epoch)
        # D has not moved when the segmenter steps, nor the features when D does
        report = self.precision.step("segmenter", self.optimizers["segmenter"], loss)
        domain_loss = self._domain_loss(source_features.detach(), target_features.detach())
        report |= self.precision.step("feature_discriminator", self.optimizers["feature_discriminator"], domain_loss)
        return {
            **by_name(terms),
            **report,
            **self.loss_weights.scheduled(epoch),
            SIFAKeys.LOSS: loss,
            SIFAKeys.PRED: target_logits,
        }

    def _domain_loss(self, source_features: torch.Tensor, target_features: torch.Tensor) -> torch.Tensor:
        return cross_entropy_discriminate(self.discriminator(target_features), self.discriminator(source_features))
