"""One iteration of SIFA: the six updates of the paper, in its order, each with the formula it minimizes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from monai.networks import one_hot
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation import losses
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.loss_weights import LossWeights
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.self_training import SelfTraining
from sifa.networks import Segmenter, TargetGenerator
from sifa.networks.batch_norm import running_statistics_held
from sifa.training.checkpoint import load_optimizer
from sifa.training.mixed_precision import MixedPrecision, in_full
from sifa.training.weight_average import WeightAverage
from sifa.utils.distributed import mean_over_processes
from sifa.utils.keys import LossTerms, SIFAKeys


@dataclass
class Networks:
    """The networks of one run. `prediction_discriminator` (D_p) is None where FA-P is switched off."""

    segmenter: Segmenter  # C(E(.))
    target_generator: TargetGenerator  # G_t
    source_decoder: nn.Module  # U
    target_discriminator: nn.Module  # D_t
    source_discriminator: nn.Module  # D_s; two output channels where FA-I is on, else one
    prediction_discriminator: nn.Module | None = None  # D_p

    def by_name(self) -> dict[str, nn.Module]:
        """Returns the networks that there are."""
        return {name: network for name, network in vars(self).items() if network is not None}


@dataclass
class Batch:
    """What one iteration works on, on the device: images (B, C, H, W) in [-1, 1], labels (B, 1, H, W)."""

    source_image: torch.Tensor  # x_s
    source_label: torch.Tensor  # y_s
    target_image: torch.Tensor  # x_t
    source_view: torch.Tensor | None = None  # x_s with a random appearance; only the term `appearance` takes it
    target_view: torch.Tensor | None = None  # x_t with a random appearance; only self-training takes it


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
        precision: what the networks compute in; None: float32.
        average: takes up the segmenter's weights after each iteration; None: nothing does.
        self_training: labels target images; None: nothing does.
    """

    def __init__(
        self,
        networks: Networks,
        optimizers: Mapping[str, Optimizer],
        loss_weights: LossWeights,
        segmentation_loss: SegmentationLoss,
        target_pool: ImagePool,
        source_pool: ImagePool,
        precision: MixedPrecision | None = None,
        average: WeightAverage | None = None,
        self_training: SelfTraining | None = None,
    ) -> None:
        self.networks = networks
        self.optimizers = optimizers
        self.loss_weights = loss_weights
        self.segmentation_loss = segmentation_loss
        self.target_pool = target_pool
        self.source_pool = source_pool
        self.precision = precision or MixedPrecision()
        self.average = average
        self.self_training = self_training
        forward = self.precision.forward
        self.encoder = forward(networks.segmenter.encoder)
        self.classifier = forward(networks.segmenter.pixel_classifier)
        self.generator = forward(networks.target_generator)
        self.decoder = forward(networks.source_decoder)
        self.target_discriminator = forward(networks.target_discriminator)
        self.source_discriminator = forward(networks.source_discriminator)
        discriminator = networks.prediction_discriminator
        self.prediction_discriminator = None if discriminator is None else forward(discriminator)

    def __call__(self, engine: Engine, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one iteration.

        Args:
            engine: the trainer; its device and its epoch (counted from 1) are read.
            batchdata: `source_image` and `target_image` (B, C, H, W) in [-1, 1], `source_label` (B, 1, H, W), and for
                their terms `source_view` and `target_view` (B, C, H, W).

        Returns:
            The images of the iteration by `SIFAKeys`, every loss term, w_p, and for each update `<module>_loss`,
            `<module>_gradient_norm` and `<module>_learning_rate`; all without gradient, scalars as means over the
            processes that train together.
        """
        state: Any = engine.state
        keys = [field.name for field in fields(Batch)]
        batch = Batch(**{key: batchdata[key].to(state.device, non_blocking=True) for key in keys if key in batchdata})
        for network in self.networks.by_name().values():
            network.train()
        output = {str(key): value.detach() for key, value in self._update_all(batch, state.epoch).items()}
        self.precision.end_iteration()
        if self.average is not None:
            self.average.update()
        scalars = {key: value for key, value in output.items() if value.ndim == 0}
        state.output = {**output, **mean_over_processes(scalars, state.device)}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return state.output

    def modules(self) -> list[nn.Module]:
        """Returns the networks that train."""
        return list(self.networks.by_name().values())

    def state_dict(self) -> dict[str, Any]:
        """Returns all that training changes: weights, optimizers, scale of the gradients; not the pools."""
        networks = self.networks.by_name()
        return {
            "networks": {name: network.state_dict() for name, network in networks.items()},
            "optimizers": {name: self.optimizers[name].state_dict() for name in networks},
            "precision": self.precision.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
            "self_training": {} if self.self_training is None else self.self_training.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up again what `state_dict` returned."""
        for name, network in self.networks.by_name().items():
            network.load_state_dict(state["networks"][name])
            load_optimizer(self.optimizers[name], state["optimizers"][name])
        self.precision.load_state_dict(state["precision"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.self_training is not None:
            self.self_training.load_state_dict(state["self_training"])

    def process_state_dict(self) -> dict[str, Any]:
        """Returns what each process has of its own: the pools."""
        return {"target_pool": self.target_pool.state_dict(), "source_pool": self.source_pool.state_dict()}

    def load_process_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up again what `process_state_dict` returned."""
        self.target_pool.load_state_dict(state["target_pool"])
        self.source_pool.load_state_dict(state["source_pool"])

    def _update_all(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        # E, C and U do not change before the E + C update: this graph serves G_t (detached) and E + C.
        target_latent = self.encoder(batch.target_image)
        fake_source, target_logits = self.decoder(target_latent, batch.target_image), self.classifier(target_latent)

        output = self._update_target_generator(batch, target_logits, fake_source.detach(), epoch)
        with torch.no_grad():
            fake_target = self._translate_source(batch)
        output |= self._update_target_discriminator(batch, fake_target)
        output |= self._update_segmenter(batch, fake_target, target_logits, fake_source, epoch)

        with torch.no_grad(), self._running_statistics_held():
            fake_latent, target_latent = self.encoder(fake_target), self.encoder(batch.target_image)
            fake_logits, target_logits = self.classifier(fake_latent), self.classifier(target_latent)
        output |= self._update_source_decoder(batch, fake_target, fake_latent, target_latent, target_logits, epoch)

        with torch.no_grad():
            reconstructed_source = self.decoder(fake_latent, fake_target)
            fake_source = self.decoder(target_latent, batch.target_image)
        output |= self._update_source_discriminator(batch, reconstructed_source, fake_source)
        output |= self._update_prediction_discriminator(fake_logits, target_logits)
        output[SIFAKeys.FAKE_TARGET] = fake_target
        output[SIFAKeys.FAKE_SOURCE] = fake_source
        output[SIFAKeys.RECONSTRUCTED_SOURCE] = reconstructed_source
        output[SIFAKeys.PRED] = target_logits
        return output

    def _running_statistics_held(self) -> AbstractContextManager[None]:
        return running_statistics_held(self.networks.segmenter.encoder)

    def _descend(self, name: str, loss: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.precision.descend(name, self.optimizers[name], loss)

    def _translate_source(self, batch: Batch) -> torch.Tensor:
        """Returns G_t(x_s); G_t is told y_s where it takes classes."""
        count = self.networks.target_generator.num_classes
        if not count:
            return self.generator(batch.source_image)
        return self.generator(batch.source_image, one_hot(batch.source_label, count, batch.source_image.dtype))

    def _translate_back(self, fake_source: torch.Tensor, target_logits: torch.Tensor) -> torch.Tensor:
        """Returns G_t(U(E(x_t))); where G_t takes classes it is told C(E(x_t)), which learns nothing from that."""
        if not self.networks.target_generator.num_classes:
            return self.generator(fake_source)
        return self.generator(fake_source, in_full(target_logits.detach()).softmax(dim=1))

    def _update_target_generator(
        self, batch: Batch, target_logits: torch.Tensor, fake_source: torch.Tensor, epoch: int
    ) -> dict[str, torch.Tensor]:
        """G_t: cycle both ways, and G_t(x_s) is to fool D_t (Eq. 1 and 2)."""
        fake_target = self._translate_source(batch)
        with self._running_statistics_held():
            fake_latent = self.encoder(fake_target)
        reconstructed_target = self._translate_back(fake_source, target_logits)
        terms = {
            LossTerms.SOURCE_CYCLE: losses.cycle(self.decoder(fake_latent, fake_target), batch.source_image),
            LossTerms.TARGET_CYCLE: losses.cycle(reconstructed_target, batch.target_image),
            LossTerms.TARGET_ADVERSARIAL: losses.fool(self.target_discriminator(fake_target)),
        }
        report = self._descend("target_generator", self.loss_weights.total("target_generator", terms, epoch))
        return {**by_name(terms), **report, SIFAKeys.RECONSTRUCTED_TARGET: reconstructed_target}

    def _update_target_discriminator(self, batch: Batch, fake_target: torch.Tensor) -> dict[str, torch.Tensor]:
        """D_t: x_t is real, G_t(x_s) is fake."""
        fake_scores = self.target_discriminator(self.target_pool(fake_target))
        loss = losses.discriminate(self.target_discriminator(batch.target_image), fake_scores)
        return self._descend("target_discriminator", loss)

    def _update_segmenter(
        self,
        batch: Batch,
        fake_target: torch.Tensor,
        target_logits: torch.Tensor,
        fake_source: torch.Tensor,
        epoch: int,
    ) -> dict[str, torch.Tensor]:
        """E and C: segmentation of G_t(x_s) (Eq. 3), cycle, and E(x_t) is to fool D_s and D_p (Eq. 4 and 5).

        `target_logits` and `fake_source` carry the graph that leads to E.
        """
        with self._running_statistics_held():
            fake_latent = self.encoder(fake_target)
        scores = self.source_discriminator(fake_source)
        reconstructed_target = self._translate_back(fake_source, target_logits)
        terms = {
            LossTerms.SEGMENTATION: self.segmentation_loss(self.classifier(fake_latent), batch.source_label),
            LossTerms.SOURCE_CYCLE: losses.cycle(self.decoder(fake_latent, fake_target), batch.source_image),
            LossTerms.TARGET_CYCLE: losses.cycle(reconstructed_target, batch.target_image),
            LossTerms.SOURCE_ADVERSARIAL: losses.fool(scores[:, 0]),
        }
        if scores.shape[1] > 1:
            terms[LossTerms.AUXILIARY_ADVERSARIAL] = losses.fool(scores[:, 1])
        report = {}
        if self.prediction_discriminator is not None:
            prediction_scores = self.prediction_discriminator(target_logits)
            terms[LossTerms.PREDICTION_ADVERSARIAL] = losses.fool(prediction_scores)
            report["prediction_adversarial_weight"] = self.prediction_weight(epoch)
        terms |= self._view_terms(batch, epoch)
        loss = self.loss_weights.total("segmenter", terms, epoch)
        return {**by_name(terms), **report, **self._descend("segmenter", loss), SIFAKeys.LOSS: loss}

    def _view_terms(self, batch: Batch, epoch: int) -> dict[LossTerms, torch.Tensor]:
        """Eq. 3 of views, whose appearance is random: x_s's against y_s, x_t's against the weight average's labels.

        A term whose weight is 0 in this epoch is left out.
        """
        terms: dict[LossTerms, torch.Tensor] = {}
        if batch.source_view is not None and self.loss_weights.at("segmenter", LossTerms.APPEARANCE, epoch):
            terms[LossTerms.APPEARANCE] = self._segmentation_of(batch.source_view, batch.source_label)
        weight = self.loss_weights.at("segmenter", LossTerms.SELF_TRAINING, epoch)
        if batch.target_view is not None and self.self_training is not None and weight:
            label = self.self_training.label(batch.target_image)
            terms[LossTerms.SELF_TRAINING] = self._segmentation_of(batch.target_view, label)
        return terms

    def _segmentation_of(self, view: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with self._running_statistics_held():
            logits = self.classifier(self.encoder(view))
        return self.segmentation_loss(logits, label)

    def prediction_weight(self, epoch: int) -> torch.Tensor:
        """Returns w_p of Eq. 4 in `epoch`, which follows a ramp."""
        return torch.tensor(self.loss_weights.at("segmenter", LossTerms.PREDICTION_ADVERSARIAL, epoch))

    def _update_source_decoder(
        self,
        batch: Batch,
        fake_target: torch.Tensor,
        fake_latent: torch.Tensor,
        target_latent: torch.Tensor,
        target_logits: torch.Tensor,
        epoch: int,
    ) -> dict[str, torch.Tensor]:
        """U: cycle both ways, and U(E(x_t)) is to fool D_s."""
        fake_source = self.decoder(target_latent, batch.target_image)
        scores = self.source_discriminator(fake_source)
        reconstructed_target = self._translate_back(fake_source, target_logits)
        terms = {
            LossTerms.SOURCE_CYCLE: losses.cycle(self.decoder(fake_latent, fake_target), batch.source_image),
            LossTerms.TARGET_CYCLE: losses.cycle(reconstructed_target, batch.target_image),
            LossTerms.SOURCE_ADVERSARIAL: losses.fool(scores[:, 0]),
        }
        if scores.shape[1] > 1:
            terms[LossTerms.AUXILIARY_ADVERSARIAL] = losses.fool(scores[:, 1])
        return self._descend("source_decoder", self.loss_weights.total("source_decoder", terms, epoch))

    def _update_source_discriminator(
        self, batch: Batch, reconstructed_source: torch.Tensor, fake_source: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """D_s: x_s is real and U(E(x_t)) fake; auxiliary head: U(E(G_t(x_s))) is 1 and U(E(x_t)) is 0 (Eq. 5)."""
        real_scores = self.source_discriminator(batch.source_image)
        fake_scores = self.source_discriminator(self.source_pool(fake_source))
        loss = losses.discriminate(real_scores[:, 0], fake_scores[:, 0])
        if fake_scores.shape[1] > 1:
            reconstructed_scores = self.source_discriminator(reconstructed_source)
            loss = loss + losses.discriminate(reconstructed_scores[:, 1], fake_scores[:, 1])
        return self._descend("source_discriminator", loss)

    def _update_prediction_discriminator(
        self, fake_logits: torch.Tensor, target_logits: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """D_p: C(E(G_t(x_s))) is 1, C(E(x_t)) is 0; raw logits, as the authors feed it."""
        discriminator = self.prediction_discriminator
        if discriminator is None:
            return {}
        loss = losses.discriminate(discriminator(fake_logits), discriminator(target_logits))
        return self._descend("prediction_discriminator", loss)


def by_name(terms: Mapping[LossTerms, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns loss terms under the names that outputs, logs and tables have for them."""
    return {str(term.value): loss for term, loss in terms.items()}
