"""SIFA (Chen et al., AAAI 2019): the six updates of an iteration, in the order of the paper."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation import losses
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.loss_weights import Columns, LossWeights, by_name
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.segmenter_terms import SegmenterTerms
from sifa.adaptation.self_training import SelfTraining
from sifa.adaptation.sifa_networks import SIFAForward, SIFANetworks
from sifa.adaptation.sifa_terms import (
    TERMS,
    check_heads,
    cycle_terms,
    source_adversarial_terms,
    source_discriminator_loss,
)
from sifa.training.iteration_update import Batch, Stateful, present
from sifa.training.mixed_precision import MixedPrecision
from sifa.utils.keys import LossTerms, SIFAKeys


class SIFA:
    """Updates G_t, D_t, E + C, U, D_s and D_p, in this order; each uses the weights as changed by the earlier ones.

    Results that cannot have changed between two updates are computed once: E and U do not change before the E + C
    update, so E(x_t) and U(E(x_t)) of the G_t update serve it too; G_t(x_s) is computed again after G_t's update and
    then kept; the latents after the E + C update serve U, D_s and D_p.

    The running batch-norm statistics of E describe real target images only, since the exported segmenter sees nothing
    else. They are updated once an iteration.

    Args:
        networks: the networks.
        optimizers: by name of the network: `target_generator`, `segmenter` (E and C), `source_decoder`,
            `target_discriminator`, `source_discriminator`, `prediction_discriminator`.
        loss_weights: the columns `target_generator`, `segmenter` and `source_decoder` of the weight matrix.
        segmentation_loss: Eq. 3.
        target_pool: earlier fake targets for D_t.
        source_pool: earlier fake sources for D_s.
        precision: the precision that the networks compute in; None: float32.
        self_training: labels target images for the term `self_training`; None: the term has no weight.

    Raises:
        InputError: when `loss_weights` names a module or term that SIFA does not have, or gives a weight to a term
            whose discriminator or head does not exist.
    """

    name = "sifa"

    def __init__(
        self,
        networks: SIFANetworks,
        optimizers: Mapping[str, Optimizer],
        loss_weights: Columns,
        segmentation_loss: SegmentationLoss,
        target_pool: ImagePool,
        source_pool: ImagePool,
        precision: MixedPrecision | None = None,
        self_training: SelfTraining | None = None,
    ) -> None:
        self.networks = networks.by_name()
        self.frozen: Mapping[str, nn.Module] = {}
        self.optimizers = {name: optimizers[name] for name in self.networks}
        self.shared_state: Mapping[str, Stateful] = present(self_training=self_training)
        self.process_state: Mapping[str, Stateful] = {"target_pool": target_pool, "source_pool": source_pool}
        self.loss_weights = LossWeights(loss_weights, TERMS)
        check_heads(self.loss_weights, networks)
        self.segmentation_loss = segmentation_loss
        self.target_pool = target_pool
        self.source_pool = source_pool
        self.precision = precision or MixedPrecision()
        self.forward = SIFAForward(networks, self.precision)
        self.segmenter_terms = SegmenterTerms(
            networks.segmenter, self.loss_weights, segmentation_loss, self.precision, self_training
        )

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Runs the six updates; see `sifa.training.iteration_update.Method`."""
        forward = self.forward
        # E, C and U do not change before the E + C update: this graph serves G_t (detached) and E + C.
        target_latent = forward.encoder(batch.target_image)
        fake_source = forward.decode(batch, target_latent, batch.target_image)
        target_logits = forward.classify(batch, target_latent)

        output = self.update_target_generator(batch, target_logits, fake_source.detach(), epoch)
        with torch.no_grad():
            fake_target = forward.translate_source(batch)
        output |= self.update_target_discriminator(batch, fake_target)
        output |= self.update_segmenter(batch, fake_target, target_logits, fake_source, epoch)

        with torch.no_grad(), forward.running_statistics_held():
            fake_latent, target_latent = forward.encoder(fake_target), forward.encoder(batch.target_image)
            fake_logits, target_logits = forward.classify(batch, fake_latent), forward.classify(batch, target_latent)
        output |= self.update_source_decoder(batch, fake_target, fake_latent, target_latent, target_logits, epoch)

        with torch.no_grad():
            reconstructed_source = forward.decode(batch, fake_latent, fake_target)
            fake_source = forward.decode(batch, target_latent, batch.target_image)
        output |= self.update_source_discriminator(batch, reconstructed_source, fake_source)
        output |= self.update_prediction_discriminator(fake_logits, target_logits)
        return {
            **output,
            **self.loss_weights.scheduled(epoch),
            SIFAKeys.FAKE_TARGET: fake_target,
            SIFAKeys.FAKE_SOURCE: fake_source,
            SIFAKeys.RECONSTRUCTED_SOURCE: reconstructed_source,
            SIFAKeys.PRED: target_logits,
        }

    def update_target_generator(
        self, batch: Batch, target_logits: torch.Tensor, fake_source: torch.Tensor, epoch: int
    ) -> dict[str, torch.Tensor]:
        """G_t minimizes both cycles (Eq. 2), and G_t(x_s) fools D_t (Eq. 1).

        Args:
            batch: the batch.
            target_logits: C(E(x_t)), (B, num_classes, H, W).
            fake_source: U(E(x_t)), (B, C, H, W), without a graph.
            epoch: counted from 1.
        """
        fake_target = self.forward.translate_source(batch)
        with self.forward.running_statistics_held():
            fake_latent = self.forward.encoder(fake_target)
        reconstructed_target = self.forward.translate_back(batch, fake_source, target_logits)
        terms = cycle_terms(batch, self.forward.decode(batch, fake_latent, fake_target), reconstructed_target)
        terms[LossTerms.TARGET_ADVERSARIAL] = losses.fool(self.forward.target_discriminator(fake_target))
        report = self._step("target_generator", self.loss_weights.total("target_generator", terms, epoch))
        return {**by_name(terms), **report, SIFAKeys.RECONSTRUCTED_TARGET: reconstructed_target}

    def update_target_discriminator(self, batch: Batch, fake_target: torch.Tensor) -> dict[str, torch.Tensor]:
        """D_t: x_t is real, G_t(x_s) is fake.

        Args:
            batch: the batch.
            fake_target: G_t(x_s), (B, C, H, W), without a graph.
        """
        fake_scores = self.forward.target_discriminator(self.target_pool(fake_target))
        loss = losses.discriminate(self.forward.target_discriminator(batch.target_image), fake_scores)
        return self._step("target_discriminator", loss)

    def update_segmenter(
        self,
        batch: Batch,
        fake_target: torch.Tensor,
        target_logits: torch.Tensor,
        fake_source: torch.Tensor,
        epoch: int,
    ) -> dict[str, torch.Tensor]:
        """E and C: segmentation of G_t(x_s) (Eq. 3), both cycles, and E(x_t) fools D_s and D_p (Eq. 4 and 5).

        Args:
            batch: the batch.
            fake_target: G_t(x_s), (B, C, H, W), without a graph.
            target_logits: C(E(x_t)), (B, num_classes, H, W), with the graph that leads to E and C.
            fake_source: U(E(x_t)), (B, C, H, W), with the graph that leads to E.
            epoch: counted from 1.
        """
        with self.forward.running_statistics_held():
            fake_latent = self.forward.encoder(fake_target)
        scores = self.forward.source_discriminator(fake_source)
        reconstructed_target = self.forward.translate_back(batch, fake_source, target_logits)
        terms = {
            LossTerms.SEGMENTATION: self.segmentation_loss(
                self.forward.classify(batch, fake_latent), batch.source_label
            ),
            **cycle_terms(batch, self.forward.decode(batch, fake_latent, fake_target), reconstructed_target),
            **source_adversarial_terms(scores),
        }
        if self.forward.prediction_discriminator is not None:
            terms[LossTerms.PREDICTION_ADVERSARIAL] = losses.fool(self.forward.prediction_discriminator(target_logits))
        terms |= self.segmenter_terms(batch, epoch)
        loss = self.loss_weights.total("segmenter", terms, epoch)
        return {**by_name(terms), **self._step("segmenter", loss), SIFAKeys.LOSS: loss}

    def update_source_decoder(
        self,
        batch: Batch,
        fake_target: torch.Tensor,
        fake_latent: torch.Tensor,
        target_latent: torch.Tensor,
        target_logits: torch.Tensor,
        epoch: int,
    ) -> dict[str, torch.Tensor]:
        """U minimizes both cycles, and U(E(x_t)) fools D_s.

        Args:
            batch: the batch.
            fake_target: G_t(x_s), (B, C, H, W); this and what follows is without a graph.
            fake_latent: E(G_t(x_s)), (B, C', H / 8, W / 8).
            target_latent: E(x_t), of the same shape.
            target_logits: C(E(x_t)), (B, num_classes, H, W).
            epoch: counted from 1.
        """
        fake_source = self.forward.decode(batch, target_latent, batch.target_image)
        scores = self.forward.source_discriminator(fake_source)
        reconstructed_target = self.forward.translate_back(batch, fake_source, target_logits)
        terms = {
            **cycle_terms(batch, self.forward.decode(batch, fake_latent, fake_target), reconstructed_target),
            **source_adversarial_terms(scores),
        }
        return self._step("source_decoder", self.loss_weights.total("source_decoder", terms, epoch))

    def update_source_discriminator(
        self, batch: Batch, reconstructed_source: torch.Tensor, fake_source: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """D_s: x_s is real and U(E(x_t)) fake; auxiliary head: U(E(G_t(x_s))) is 1 and U(E(x_t)) is 0 (Eq. 5).

        Args:
            batch: the batch.
            reconstructed_source: U(E(G_t(x_s))), (B, C, H, W), without a graph.
            fake_source: U(E(x_t)), (B, C, H, W), without a graph.
        """
        discriminator = self.forward.source_discriminator
        real_scores, fake_scores = discriminator(batch.source_image), discriminator(self.source_pool(fake_source))
        reconstructed_scores = discriminator(reconstructed_source) if fake_scores.shape[1] > 1 else None
        loss = source_discriminator_loss(real_scores, fake_scores, reconstructed_scores)
        return self._step("source_discriminator", loss)

    def update_prediction_discriminator(
        self, fake_logits: torch.Tensor, target_logits: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """D_p: C(E(G_t(x_s))) is 1, C(E(x_t)) is 0; raw logits, as in the authors' code. Nothing where FA-P is off.

        Args:
            fake_logits: C(E(G_t(x_s))), (B, num_classes, H, W), without a graph.
            target_logits: C(E(x_t)), likewise.
        """
        discriminator = self.forward.prediction_discriminator
        if discriminator is None:
            return {}
        return self._step(
            "prediction_discriminator", losses.discriminate(discriminator(fake_logits), discriminator(target_logits))
        )

    def _step(self, name: str, loss: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.precision.step(name, self.optimizers[name], loss)
