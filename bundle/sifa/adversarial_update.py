"""One iteration of SIFA: the six updates of the paper, in its order, each with the formula it minimizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import nn
from torch.optim import Optimizer

from sifa import losses
from sifa.batch_norm import running_statistics_held
from sifa.image_pool import ImagePool
from sifa.keys import LossTerms, SIFAKeys
from sifa.loss_weights import LossWeights
from sifa.losses import SegmentationLoss
from sifa.networks import Segmenter


@dataclass
class Networks:
    """The networks of one run. `prediction_discriminator` (D_p) is None where FA-P is switched off."""

    segmenter: Segmenter  # C(E(.))
    target_generator: nn.Module  # G_t
    source_decoder: nn.Module  # U
    target_discriminator: nn.Module  # D_t
    source_discriminator: nn.Module  # D_s; two output channels where FA-I is on, else one
    prediction_discriminator: nn.Module | None = None  # D_p


@dataclass
class Batch:
    """What one iteration works on, on the device: images (B, C, H, W) in [-1, 1], labels (B, 1, H, W)."""

    source_image: torch.Tensor  # x_s
    source_label: torch.Tensor  # y_s
    target_image: torch.Tensor  # x_t


class AdversarialUpdate:
    """`iteration_update` of a `monai.engines.Trainer`: updates G_t, D_t, E + C, U, D_s, D_p, in this order.

    Every update sees the weights that the ones before it left. What cannot have changed in between is computed once:
    E and U stay as they are until the E + C update, so E(x_t) and U(E(x_t)) of the G_t update serve it too; G_t(x_s)
    is computed anew after G_t's update and then kept; the latents behind the E + C update serve U, D_s and D_p.

    The running statistics of E's batch norm describe real target images only, which is what the exported segmenter
    will see: one update of them an iteration.

    Args:
        networks: the networks.
        optimizers: by the name of what they update: `target_generator`, `segmenter` (E and C), `source_decoder`,
            `target_discriminator`, `source_discriminator`, `prediction_discriminator`.
        loss_weights: the columns `target_generator`, `segmenter` and `source_decoder` of the weight matrix.
        segmentation_loss: Eq. 3.
        target_pool: earlier fake targets for D_t.
        source_pool: earlier fake sources for D_s.
    """

    def __init__(
        self,
        networks: Networks,
        optimizers: Mapping[str, Optimizer],
        loss_weights: LossWeights,
        segmentation_loss: SegmentationLoss,
        target_pool: ImagePool,
        source_pool: ImagePool,
    ) -> None:
        self.networks = networks
        self.optimizers = optimizers
        self.loss_weights = loss_weights
        self.segmentation_loss = segmentation_loss
        self.target_pool = target_pool
        self.source_pool = source_pool

    def __call__(self, engine: Engine, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one iteration.

        Args:
            engine: the trainer; its device and its epoch (counted from 1) are read.
            batchdata: `source_image` and `target_image` (B, C, H, W) in [-1, 1], `source_label` (B, 1, H, W).

        Returns:
            The images of the iteration by `SIFAKeys`, every loss term, and `<module>_loss` for each update; all
            without gradient.
        """
        state: Any = engine.state
        batch = Batch(*(batchdata[key].to(state.device) for key in ("source_image", "source_label", "target_image")))
        for network in vars(self.networks).values():
            if network is not None:
                network.train()
        output = self._update_all(batch, state.epoch)
        state.output = {str(key): value.detach() for key, value in output.items()}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return state.output

    def _update_all(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        generator, decoder = self.networks.target_generator, self.networks.source_decoder
        encoder, classifier = self.networks.segmenter.encoder, self.networks.segmenter.pixel_classifier

        # E and U do not change before the E + C update: this graph serves G_t (detached) and E + C.
        target_latent = encoder(batch.target_image)
        fake_source = decoder(target_latent, batch.target_image)

        output = self._update_target_generator(batch, fake_source.detach(), epoch)
        with torch.no_grad():
            fake_target = generator(batch.source_image)
        output |= self._update_target_discriminator(batch, fake_target)
        output |= self._update_segmenter(batch, fake_target, target_latent, fake_source, epoch)

        with torch.no_grad(), running_statistics_held(encoder):
            fake_latent, target_latent = encoder(fake_target), encoder(batch.target_image)
        output |= self._update_source_decoder(batch, fake_target, fake_latent, target_latent, epoch)

        with torch.no_grad():
            reconstructed_source = decoder(fake_latent, fake_target)
            fake_source = decoder(target_latent, batch.target_image)
            fake_logits, target_logits = classifier(fake_latent), classifier(target_latent)
        output |= self._update_source_discriminator(batch, reconstructed_source, fake_source)
        output |= self._update_prediction_discriminator(fake_logits, target_logits)
        output[SIFAKeys.FAKE_TARGET] = fake_target
        output[SIFAKeys.FAKE_SOURCE] = fake_source
        output[SIFAKeys.RECONSTRUCTED_SOURCE] = reconstructed_source
        output[SIFAKeys.PRED] = target_logits
        return output

    def _step(self, name: str, loss: torch.Tensor) -> None:
        """Moves the parameters of `optimizers[name]`, and nothing else, down the gradient of `loss`."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward(inputs=[parameter for group in optimizer.param_groups for parameter in group["params"]])
        optimizer.step()

    def _update_target_generator(self, batch: Batch, fake_source: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
        """G_t: cycle both ways, and G_t(x_s) is to fool D_t (Eq. 1 and 2)."""
        generator, decoder = self.networks.target_generator, self.networks.source_decoder
        encoder = self.networks.segmenter.encoder
        fake_target = generator(batch.source_image)
        with running_statistics_held(encoder):
            fake_latent = encoder(fake_target)
        reconstructed_target = generator(fake_source)
        terms = {
            LossTerms.SOURCE_CYCLE: losses.cycle(decoder(fake_latent, fake_target), batch.source_image),
            LossTerms.TARGET_CYCLE: losses.cycle(reconstructed_target, batch.target_image),
            LossTerms.TARGET_ADVERSARIAL: losses.fool(self.networks.target_discriminator(fake_target)),
        }
        loss = self.loss_weights.total("target_generator", terms, epoch)
        self._step("target_generator", loss)
        return {
            **_by_name(terms),
            "target_generator_loss": loss,
            SIFAKeys.RECONSTRUCTED_TARGET: reconstructed_target,
        }

    def _update_target_discriminator(self, batch: Batch, fake_target: torch.Tensor) -> dict[str, torch.Tensor]:
        """D_t: x_t is real, G_t(x_s) is fake."""
        discriminator = self.networks.target_discriminator
        loss = losses.discriminate(discriminator(batch.target_image), discriminator(self.target_pool(fake_target)))
        self._step("target_discriminator", loss)
        return {"target_discriminator_loss": loss}

    def _update_segmenter(
        self,
        batch: Batch,
        fake_target: torch.Tensor,
        target_latent: torch.Tensor,
        fake_source: torch.Tensor,
        epoch: int,
    ) -> dict[str, torch.Tensor]:
        """E and C: segmentation of G_t(x_s) (Eq. 3), cycle, and E(x_t) is to fool D_s and D_p (Eq. 4 and 5).

        `target_latent` and `fake_source` carry the graph that leads to E.
        """
        encoder, classifier = self.networks.segmenter.encoder, self.networks.segmenter.pixel_classifier
        with running_statistics_held(encoder):
            fake_latent = encoder(fake_target)
        scores = self.networks.source_discriminator(fake_source)
        terms = {
            LossTerms.SEGMENTATION: self.segmentation_loss(classifier(fake_latent), batch.source_label),
            LossTerms.SOURCE_CYCLE: losses.cycle(
                self.networks.source_decoder(fake_latent, fake_target), batch.source_image
            ),
            LossTerms.TARGET_CYCLE: losses.cycle(self.networks.target_generator(fake_source), batch.target_image),
            LossTerms.SOURCE_ADVERSARIAL: losses.fool(scores[:, 0]),
        }
        if scores.shape[1] > 1:
            terms[LossTerms.AUXILIARY_ADVERSARIAL] = losses.fool(scores[:, 1])
        if self.networks.prediction_discriminator is not None:
            prediction_scores = self.networks.prediction_discriminator(classifier(target_latent))
            terms[LossTerms.PREDICTION_ADVERSARIAL] = losses.fool(prediction_scores)
        loss = self.loss_weights.total("segmenter", terms, epoch)
        self._step("segmenter", loss)
        return {**_by_name(terms), "segmenter_loss": loss, SIFAKeys.LOSS: loss}

    def _update_source_decoder(
        self,
        batch: Batch,
        fake_target: torch.Tensor,
        fake_latent: torch.Tensor,
        target_latent: torch.Tensor,
        epoch: int,
    ) -> dict[str, torch.Tensor]:
        """U: cycle both ways, and U(E(x_t)) is to fool D_s."""
        decoder = self.networks.source_decoder
        fake_source = decoder(target_latent, batch.target_image)
        scores = self.networks.source_discriminator(fake_source)
        terms = {
            LossTerms.SOURCE_CYCLE: losses.cycle(decoder(fake_latent, fake_target), batch.source_image),
            LossTerms.TARGET_CYCLE: losses.cycle(self.networks.target_generator(fake_source), batch.target_image),
            LossTerms.SOURCE_ADVERSARIAL: losses.fool(scores[:, 0]),
        }
        if scores.shape[1] > 1:
            terms[LossTerms.AUXILIARY_ADVERSARIAL] = losses.fool(scores[:, 1])
        loss = self.loss_weights.total("source_decoder", terms, epoch)
        self._step("source_decoder", loss)
        return {"source_decoder_loss": loss}

    def _update_source_discriminator(
        self, batch: Batch, reconstructed_source: torch.Tensor, fake_source: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """D_s: x_s is real and U(E(x_t)) fake; auxiliary head: U(E(G_t(x_s))) is 1 and U(E(x_t)) is 0 (Eq. 5)."""
        discriminator = self.networks.source_discriminator
        real_scores = discriminator(batch.source_image)
        fake_scores = discriminator(self.source_pool(fake_source))
        loss = losses.discriminate(real_scores[:, 0], fake_scores[:, 0])
        if fake_scores.shape[1] > 1:
            loss = loss + losses.discriminate(discriminator(reconstructed_source)[:, 1], fake_scores[:, 1])
        self._step("source_discriminator", loss)
        return {"source_discriminator_loss": loss}

    def _update_prediction_discriminator(
        self, fake_logits: torch.Tensor, target_logits: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """D_p: C(E(G_t(x_s))) is 1, C(E(x_t)) is 0; raw logits, as the authors feed it."""
        discriminator = self.networks.prediction_discriminator
        if discriminator is None:
            return {}
        loss = losses.discriminate(discriminator(fake_logits), discriminator(target_logits))
        self._step("prediction_discriminator", loss)
        return {"prediction_discriminator_loss": loss}


def _by_name(terms: Mapping[LossTerms, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {str(term.value): loss for term, loss in terms.items()}
