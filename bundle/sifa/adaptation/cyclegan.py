"""CycleGAN (Zhu et al., ICCV 2017): a segmenter that learns from source images translated to the target."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation import losses
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.loss_weights import Columns, LossWeights, by_name
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.segmenter_terms import SEGMENTER_TERMS, SegmenterTerms
from sifa.adaptation.self_training import SelfTraining
from sifa.networks import Segmenter
from sifa.networks.batch_norm import running_statistics_held
from sifa.training.iteration_update import Batch, Stateful, present
from sifa.training.mixed_precision import MixedPrecision
from sifa.utils.keys import LossTerms, SIFAKeys

GENERATORS = (LossTerms.SOURCE_CYCLE, LossTerms.TARGET_CYCLE)
TERMS = {
    "target_generator": (*GENERATORS, LossTerms.TARGET_ADVERSARIAL, LossTerms.SEMANTIC),
    "source_generator": (*GENERATORS, LossTerms.SOURCE_ADVERSARIAL),
    "segmenter": (LossTerms.SEGMENTATION, *SEGMENTER_TERMS),
}


class CycleGAN:
    """Updates G_t, D_t, E + C, G_s and D_s, in this order; each uses the weights as changed by the earlier ones.

    G_t maps source images to the target and G_s target images to the source, both (B, C, H, W) in [-1, 1]:

        cycles         |G_s(G_t(x_s)) - x_s| and |G_t(G_s(x_t)) - x_t|, means over pixels, for G_t and G_s
        adversarial    mean (D_t(G_t(x_s)) - 1)^2 for G_t, mean (D_s(G_s(x_t)) - 1)^2 for G_s
        D_t, D_s       1/2 [mean (D(real) - 1)^2 + mean D(fake)^2], with a pool of earlier fakes
        E, C           Eq. 3 of SIFA on C(E(G_t(x_s))) and y_s
        semantic       cross-entropy of C(E(G_t(x_s))) and y_s, for G_t alone: the half of CyCADA's semantic
                       consistency that needs no label of the target

    This differs from the image adaptation (IA) of SIFA in one thing: there, E is part of the source generator U(E(.)).
    The segmenter learns from the translations of each iteration, so one training suffices. The authors of CycleGAN
    update both generators at once, with a batch of 1 and an identity term for images alike in color; the generators
    here are those of SIFA.

    The running batch-norm statistics of E describe real target images only, since the exported segmenter sees nothing
    else.

    Args:
        segmenter: C(E(.)).
        target_generator: G_t.
        source_generator: G_s.
        target_discriminator: D_t.
        source_discriminator: D_s.
        optimizers: of these five, by name.
        loss_weights: the columns `target_generator`, `source_generator` and `segmenter` of the weight matrix.
        segmentation_loss: Eq. 3 of SIFA.
        target_pool: earlier fake targets for D_t.
        source_pool: earlier fake sources for D_s.
        precision: the precision that the networks compute in; None: float32.
        self_training: labels target images for the term `self_training`; None: the term has no weight.

    Raises:
        InputError: when `loss_weights` names a module or term that CycleGAN does not have.
    """

    name = "cyclegan"

    def __init__(
        self,
        segmenter: Segmenter,
        target_generator: nn.Module,
        source_generator: nn.Module,
        target_discriminator: nn.Module,
        source_discriminator: nn.Module,
        optimizers: Mapping[str, Optimizer],
        loss_weights: Columns,
        segmentation_loss: SegmentationLoss,
        target_pool: ImagePool,
        source_pool: ImagePool,
        precision: MixedPrecision | None = None,
        self_training: SelfTraining | None = None,
    ) -> None:
        self.networks: Mapping[str, nn.Module] = {
            "target_generator": target_generator,
            "target_discriminator": target_discriminator,
            "segmenter": segmenter,
            "source_generator": source_generator,
            "source_discriminator": source_discriminator,
        }
        self.frozen: Mapping[str, nn.Module] = {}
        self.optimizers = {name: optimizers[name] for name in self.networks}
        self.shared_state: Mapping[str, Stateful] = present(self_training=self_training)
        self.process_state: Mapping[str, Stateful] = {"target_pool": target_pool, "source_pool": source_pool}
        self.loss_weights = LossWeights(loss_weights, TERMS)
        self.segmentation_loss = segmentation_loss
        self.target_pool = target_pool
        self.source_pool = source_pool
        self.precision = precision or MixedPrecision()
        self.segmenter = segmenter
        self.segment = self.precision.forward(segmenter)
        self.to_target = self.precision.forward(target_generator)
        self.to_source = self.precision.forward(source_generator)
        self.target_discriminator = self.precision.forward(target_discriminator)
        self.source_discriminator = self.precision.forward(source_discriminator)
        self.segmenter_terms = SegmenterTerms(
            segmenter, self.loss_weights, segmentation_loss, self.precision, self_training
        )

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Runs the five updates; see `sifa.training.iteration_update.Method`."""
        with torch.no_grad():
            target_logits = self.segment(batch.target_image)  # the pass that updates the running statistics
            fake_source = self.to_source(batch.target_image)
        output = self.update_target_generator(batch, fake_source, epoch)
        with torch.no_grad():
            fake_target = self.to_target(batch.source_image)
        output |= self.update_discriminator("target", batch.target_image, self.target_pool(fake_target))
        output |= self.update_segmenter(batch, fake_target, epoch)
        output |= self.update_source_generator(batch, fake_target, epoch)
        with torch.no_grad():
            fake_source = self.to_source(batch.target_image)
        output |= self.update_discriminator("source", batch.source_image, self.source_pool(fake_source))
        return {
            **output,
            **self.loss_weights.scheduled(epoch),
            SIFAKeys.FAKE_TARGET: fake_target,
            SIFAKeys.FAKE_SOURCE: fake_source,
            SIFAKeys.PRED: target_logits,
        }

    def update_target_generator(self, batch: Batch, fake_source: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
        """G_t minimizes both cycles, G_t(x_s) fools D_t, and the segmenter finds y_s in it.

        Args:
            batch: the batch.
            fake_source: G_s(x_t), (B, C, H, W), without a graph.
            epoch: counted from 1.
        """
        fake_target = self.to_target(batch.source_image)
        reconstructed_source = self.to_source(fake_target)
        reconstructed_target = self.to_target(fake_source)
        terms = {
            LossTerms.SOURCE_CYCLE: losses.cycle(reconstructed_source, batch.source_image),
            LossTerms.TARGET_CYCLE: losses.cycle(reconstructed_target, batch.target_image),
            LossTerms.TARGET_ADVERSARIAL: losses.fool(self.target_discriminator(fake_target)),
        }
        if self.loss_weights.at("target_generator", LossTerms.SEMANTIC, epoch):
            with running_statistics_held(self.segmenter):
                terms[LossTerms.SEMANTIC] = losses.cross_entropy(self.segment(fake_target), batch.source_label)
        return {
            **by_name(terms),
            **self._step("target_generator", terms, epoch),
            SIFAKeys.RECONSTRUCTED_SOURCE: reconstructed_source,
            SIFAKeys.RECONSTRUCTED_TARGET: reconstructed_target,
        }

    def update_segmenter(self, batch: Batch, fake_target: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
        """E and C learn from G_t(x_s), (B, C, H, W) without a graph, and y_s."""
        with running_statistics_held(self.segmenter):
            fake_logits = self.segment(fake_target)
        terms = {
            LossTerms.SEGMENTATION: self.segmentation_loss(fake_logits, batch.source_label),
            **self.segmenter_terms(batch, epoch),
        }
        report = self._step("segmenter", terms, epoch)
        return {**by_name(terms), **report, SIFAKeys.LOSS: report["segmenter_loss"]}

    def update_source_generator(self, batch: Batch, fake_target: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
        """G_s minimizes both cycles, and G_s(x_t) fools D_s.

        Args:
            batch: the batch.
            fake_target: G_t(x_s), (B, C, H, W), without a graph.
            epoch: counted from 1.
        """
        fake_source = self.to_source(batch.target_image)
        terms = {
            LossTerms.SOURCE_CYCLE: losses.cycle(self.to_source(fake_target), batch.source_image),
            LossTerms.TARGET_CYCLE: losses.cycle(self.to_target(fake_source), batch.target_image),
            LossTerms.SOURCE_ADVERSARIAL: losses.fool(self.source_discriminator(fake_source)),
        }
        report = self._step("source_generator", terms, epoch)
        return {str(LossTerms.SOURCE_ADVERSARIAL): terms[LossTerms.SOURCE_ADVERSARIAL], **report}

    def update_discriminator(self, domain: str, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """D_t or D_s learns that real images score 1 and fakes, new or from the pool, 0.

        Args:
            domain: `target` or `source`.
            real: (B, C, H, W).
            fake: of the same shape, without a graph.
        """
        discriminator = self.target_discriminator if domain == "target" else self.source_discriminator
        loss = losses.discriminate(discriminator(real), discriminator(fake))
        name = f"{domain}_discriminator"
        return self.precision.step(name, self.optimizers[name], loss)

    def _step(self, name: str, terms: Mapping[LossTerms, torch.Tensor], epoch: int) -> dict[str, torch.Tensor]:
        return self.precision.step(name, self.optimizers[name], self.loss_weights.total(name, terms, epoch))
