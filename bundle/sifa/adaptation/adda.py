"""ADDA (Tzeng et al., CVPR 2017): an encoder of target images whose features pass for those of source images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation.accuracy_gate import AccuracyGate
from sifa.adaptation.loss_weights import Columns, LossWeights, by_name
from sifa.adaptation.losses import (
    SegmentationLoss,
    cross_entropy_discriminate,
    cross_entropy_fool,
    discriminator_accuracy,
)
from sifa.adaptation.segmenter_terms import SEGMENTER_TERMS, SegmenterTerms
from sifa.adaptation.self_training import SelfTraining
from sifa.networks import Segmenter, TappedSegmenter
from sifa.training.iteration_update import Batch, Stateful, present
from sifa.training.mixed_precision import MixedPrecision
from sifa.utils.keys import LossTerms, SIFAKeys

TERMS = {"segmenter": (LossTerms.FEATURE_ADVERSARIAL, *SEGMENTER_TERMS)}


class ADDA:
    """Updates a discriminator D and then the target encoder E_t; E_s and C stay as training on the source left them.

    E_t starts as a copy of E_s. With the raw scores of D, one for each location of the features, and labels 1 for
    source and 0 for target:

        D minimizes    1/2 [mean softplus(-D(E_s(x_s))) + mean softplus(D(E_t(x_t)))]
        E_t minimizes  mean softplus(-D(E_t(x_t))), the same loss with the labels interchanged,
                       where the accuracy of D exceeds the threshold of the gate

    The segmenter is C(E_t(.)). E_s is in evaluation mode, with the statistics of the source; the running statistics of
    E_t describe target images.

    The authors' code (erictzeng/adda) applies D to the last layer, which holds class scores there, and has no gate; the
    gate of accuracy 0.6 is that of pytorch-adapt. On the scores (`taps: [logits]`) this would be AdaptSegNet.

    Args:
        segmenter: C(E_t(.)), with the weights of the first stage; the optimizer decides that only E_t moves.
        source_segmenter: C(E_s(.)), frozen.
        feature_discriminator: D, from the tapped activations (B, C', H / 8, W / 8) to scores.
        optimizers: of `segmenter` (the parameters of E_t) and `feature_discriminator`.
        loss_weights: the column `segmenter` of the weight matrix.
        segmentation_loss: Eq. 3 of SIFA, for the terms of views; ADDA itself does not use it.
        taps: the features; see `sifa.networks.TappedSegmenter`.
        gate: decides from the accuracy of D whether E_t moves.
        precision: the precision that the networks compute in; None: float32.
        self_training: labels target images for the term `self_training`; None: the term has no weight.

    Raises:
        InputError: when `loss_weights` names a module or term that ADDA does not have, or there is no such tap.
    """

    name = "adda"

    def __init__(
        self,
        segmenter: Segmenter,
        source_segmenter: Segmenter,
        feature_discriminator: nn.Module,
        optimizers: Mapping[str, Optimizer],
        loss_weights: Columns,
        segmentation_loss: SegmentationLoss,
        taps: Sequence[str | int],
        gate: AccuracyGate,
        precision: MixedPrecision | None = None,
        self_training: SelfTraining | None = None,
    ) -> None:
        self.networks: Mapping[str, nn.Module] = {
            "segmenter": segmenter,
            "feature_discriminator": feature_discriminator,
        }
        self.frozen: Mapping[str, nn.Module] = {"source_segmenter": source_segmenter}
        self.optimizers = {name: optimizers[name] for name in self.networks}
        self.shared_state: Mapping[str, Stateful] = present(gate=gate, self_training=self_training)
        self.process_state: Mapping[str, Stateful] = {}
        self.loss_weights = LossWeights(loss_weights, TERMS)
        self.gate = gate
        self.precision = precision or MixedPrecision()
        self.segment = self.precision.forward(TappedSegmenter(segmenter, taps))
        self.segment_source = self.precision.forward(TappedSegmenter(source_segmenter, taps))
        self.discriminator = self.precision.forward(feature_discriminator)
        self.segmenter_terms = SegmenterTerms(
            segmenter, self.loss_weights, segmentation_loss, self.precision, self_training
        )

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Updates D and, where the gate is open, E_t; see `sifa.training.iteration_update.Method`."""
        with torch.no_grad():
            _, source_features = self.segment_source(batch.source_image)
        target_logits, target_features = self.segment(batch.target_image)

        source_scores = self.discriminator(source_features)
        target_scores = self.discriminator(target_features.detach())
        domain_loss = cross_entropy_discriminate(source_scores, target_scores)
        report = self.precision.step("feature_discriminator", self.optimizers["feature_discriminator"], domain_loss)
        accuracy = discriminator_accuracy(source_scores, target_scores)
        is_open = self.gate.update(accuracy)

        terms = self.segmenter_terms(batch, epoch)
        if is_open:
            terms[LossTerms.FEATURE_ADVERSARIAL] = cross_entropy_fool(self.discriminator(target_features))
        loss = torch.zeros(())
        if self.loss_weights.any_used("segmenter", terms, epoch):
            loss = self.loss_weights.total("segmenter", terms, epoch)
            report |= self.precision.step("segmenter", self.optimizers["segmenter"], loss)
        return {
            **by_name(terms),
            **report,
            **self.loss_weights.scheduled(epoch),
            SIFAKeys.DISCRIMINATOR_ACCURACY: accuracy,
            SIFAKeys.GATE_OPEN: torch.tensor(float(is_open)),
            SIFAKeys.LOSS: loss,
            SIFAKeys.PRED: target_logits,
        }
