"""CyCADA (Hoffman et al., ICML 2018): features adapt to the target beside translated source images."""

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
from sifa.networks.batch_norm import running_statistics_held
from sifa.training.iteration_update import Batch, Stateful, present
from sifa.training.mixed_precision import MixedPrecision
from sifa.utils.keys import LossTerms, SIFAKeys

TERMS = {"segmenter": (LossTerms.SEGMENTATION, LossTerms.FEATURE_ADVERSARIAL, *SEGMENTER_TERMS)}


class CyCADA:
    """The last stage of CyCADA, after CycleGAN: updates a discriminator D of scores, then E + C; G_t is frozen.

    With F = C(E(.)), z = F before the upsampling, (B, num_classes, H / 8, W / 8), the raw scores of D, one for each
    location, and labels 1 for translated source and 0 for target:

        D minimizes     1/2 [mean softplus(-D(z(G_t(x_s)))) + mean softplus(D(z(x_t)))]
        E, C minimize   L_seg(F(G_t(x_s)), y_s) + w mean softplus(-D(z(x_t))), the second term where the mean accuracy
                        of D exceeds the threshold of the gate

    The authors (jhoffman/cycada_release) use w = 0.1 and a threshold of 0.6 over 100 iterations, take the two terms of
    E and C as two steps, and stop once the gate stays closed for an epoch; here it only skips the term, and
    `gate_open` records it. Their segmentation has no semantic consistency; the term `semantic` of
    `sifa.adaptation.CycleGAN` is the half of it that needs no label of the target.

    The running batch-norm statistics of E describe real target images only.

    Args:
        segmenter: C(E(.)), with the weights of the first stage.
        target_generator: G_t of the first stage, frozen.
        feature_discriminator: D, from the tapped activations (B, C', H / 8, W / 8) to scores.
        optimizers: of `segmenter` (E and C) and `feature_discriminator`.
        loss_weights: the column `segmenter` of the weight matrix.
        segmentation_loss: Eq. 3 of SIFA.
        taps: the features; see `sifa.networks.TappedSegmenter`.
        gate: decides from the accuracy of D whether the features adapt.
        precision: the precision that the networks compute in; None: float32.
        self_training: labels target images for the term `self_training`; None: the term has no weight.

    Raises:
        InputError: when `loss_weights` names a module or term that CyCADA does not have, or there is no such tap.
    """

    name = "cycada"

    def __init__(
        self,
        segmenter: Segmenter,
        target_generator: nn.Module,
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
        self.frozen: Mapping[str, nn.Module] = {"target_generator": target_generator}
        self.optimizers = {name: optimizers[name] for name in self.networks}
        self.shared_state: Mapping[str, Stateful] = present(gate=gate, self_training=self_training)
        self.process_state: Mapping[str, Stateful] = {}
        self.loss_weights = LossWeights(loss_weights, TERMS)
        self.segmentation_loss = segmentation_loss
        self.gate = gate
        self.precision = precision or MixedPrecision()
        self.segmenter = segmenter
        self.segment = self.precision.forward(TappedSegmenter(segmenter, taps))
        self.to_target = self.precision.forward(target_generator)
        self.discriminator = self.precision.forward(feature_discriminator)
        self.segmenter_terms = SegmenterTerms(
            segmenter, self.loss_weights, segmentation_loss, self.precision, self_training
        )

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Updates D and then E + C; see `sifa.training.iteration_update.Method`."""
        with torch.no_grad():
            fake_target = self.to_target(batch.source_image)
        with running_statistics_held(self.segmenter):
            fake_logits, fake_features = self.segment(fake_target)
        target_logits, target_features = self.segment(batch.target_image)

        fake_scores = self.discriminator(fake_features.detach())
        target_scores = self.discriminator(target_features.detach())
        domain_loss = cross_entropy_discriminate(fake_scores, target_scores)
        report = self.precision.step("feature_discriminator", self.optimizers["feature_discriminator"], domain_loss)
        accuracy = discriminator_accuracy(fake_scores, target_scores)
        is_open = self.gate.update(accuracy)

        terms = {
            LossTerms.SEGMENTATION: self.segmentation_loss(fake_logits, batch.source_label),
            **self.segmenter_terms(batch, epoch),
        }
        if is_open:
            terms[LossTerms.FEATURE_ADVERSARIAL] = cross_entropy_fool(self.discriminator(target_features))
        loss = self.loss_weights.total("segmenter", terms, epoch)
        report |= self.precision.step("segmenter", self.optimizers["segmenter"], loss)
        return {
            **by_name(terms),
            **report,
            **self.loss_weights.scheduled(epoch),
            SIFAKeys.DISCRIMINATOR_ACCURACY: accuracy,
            SIFAKeys.GATE_OPEN: torch.tensor(float(is_open)),
            SIFAKeys.LOSS: loss,
            SIFAKeys.FAKE_TARGET: fake_target,
            SIFAKeys.PRED: target_logits,
        }
