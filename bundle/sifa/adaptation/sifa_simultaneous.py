"""SIFA with all updates of an iteration at once: every image is computed once, each module gets its own gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    Terms,
    check_heads,
    source_adversarial_terms,
    source_discriminator_loss,
)
from sifa.training.iteration_update import Batch, Stateful, present
from sifa.training.mixed_precision import MixedPrecision, parameters_of
from sifa.utils.keys import UPDATES, LossTerms, SIFAKeys


@dataclass
class Computed:
    """What the networks compute from a batch, once, with its graph; images and logits (B, C, H, W)."""

    fake_target: torch.Tensor  # G_t(x_s)
    translated: torch.Tensor  # U(E(x_t)), with the graph that leads to E and U
    fake_source: torch.Tensor  # the same values after the cut: a leaf
    reconstructed_source: torch.Tensor  # U(E(G_t(x_s)))
    reconstructed_target: torch.Tensor  # G_t(U(E(x_t))), after the cut
    fake_logits: torch.Tensor  # C(E(G_t(x_s)))
    target_logits: torch.Tensor  # C(E(x_t))
    target_scores: torch.Tensor  # D_t(G_t(x_s))
    source_scores: torch.Tensor  # D_s(U(E(x_t))), after the cut
    prediction_scores: torch.Tensor | None  # D_p(C(E(x_t)))


class SIFASimultaneous:
    """Updates all modules from the weights that the iteration began with.

    In the paper's order (`sifa.adaptation.sifa.SIFA`) each update uses the results of the earlier ones, so images are
    recomputed. Here all images are computed once, and each module takes from that one graph the gradient of its own
    column of the weight matrix: the gradient of its own loss. The arguments are those of `SIFA`.

    The graph is cut at U(E(x_t)). The columns weight the terms after the cut differently, so the gradient of each of
    these terms is computed once, up to the cut, and continues from there with the weights of U, and with those of E and
    C.
    """

    name = "sifa_simultaneous"

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
        """Runs all updates; see `sifa.training.iteration_update.Method`."""
        computed = self._compute(batch)
        before, after = self._terms_before_cut(batch, computed, epoch), self._terms_after_cut(batch, computed)
        terms = before | after
        totals = {
            module: self.loss_weights.total(module, {term: terms[term] for term in column if term in terms}, epoch)
            for module, column in TERMS.items()
        }
        discriminator_losses = self._discriminator_losses(batch, computed)
        totals |= discriminator_losses

        for name in totals:
            self.optimizers[name].zero_grad()
        at_cut = self._backward_to_cut(after, computed.fake_source, epoch)
        self._backward("target_generator", before, epoch)
        self._backward("segmenter", before, epoch, computed.translated, at_cut)
        self._backward("source_decoder", before, epoch, computed.translated, at_cut)
        for name, loss in discriminator_losses.items():
            self._scaled(loss).backward(inputs=parameters_of(self.optimizers[name]), retain_graph=True)

        output = by_name(terms)
        for name in UPDATES:
            if name in totals:
                output |= self.precision.step_from_gradients(name, self.optimizers[name], totals[name])
        return {
            **output,
            **self.loss_weights.scheduled(epoch),
            SIFAKeys.LOSS: totals["segmenter"],
            SIFAKeys.FAKE_TARGET: computed.fake_target,
            SIFAKeys.FAKE_SOURCE: computed.fake_source,
            SIFAKeys.RECONSTRUCTED_SOURCE: computed.reconstructed_source,
            SIFAKeys.RECONSTRUCTED_TARGET: computed.reconstructed_target,
            SIFAKeys.PRED: computed.target_logits,
        }

    def _compute(self, batch: Batch) -> Computed:
        forward = self.forward
        fake_target = forward.translate_source(batch)
        with forward.running_statistics_held():
            fake_latent = forward.encoder(fake_target)
        target_latent = forward.encoder(batch.target_image)
        translated = forward.decode(batch, target_latent, batch.target_image)
        fake_source = translated.detach().requires_grad_()
        target_logits = forward.classify(batch, target_latent)
        discriminator = forward.prediction_discriminator
        return Computed(
            fake_target=fake_target,
            translated=translated,
            fake_source=fake_source,
            reconstructed_source=forward.decode(batch, fake_latent, fake_target),
            reconstructed_target=forward.translate_back(batch, fake_source, target_logits),
            fake_logits=forward.classify(batch, fake_latent),
            target_logits=target_logits,
            target_scores=forward.target_discriminator(fake_target),
            source_scores=forward.source_discriminator(fake_source),
            prediction_scores=None if discriminator is None else discriminator(target_logits),
        )

    def _terms_before_cut(self, batch: Batch, computed: Computed, epoch: int) -> Terms:
        terms: Terms = {
            LossTerms.SEGMENTATION: self.segmentation_loss(computed.fake_logits, batch.source_label),
            LossTerms.SOURCE_CYCLE: losses.cycle(computed.reconstructed_source, batch.source_image),
            LossTerms.TARGET_ADVERSARIAL: losses.fool(computed.target_scores),
        }
        if computed.prediction_scores is not None:
            terms[LossTerms.PREDICTION_ADVERSARIAL] = losses.fool(computed.prediction_scores)
        return terms | self.segmenter_terms(batch, epoch)

    def _terms_after_cut(self, batch: Batch, computed: Computed) -> Terms:
        return {
            LossTerms.TARGET_CYCLE: losses.cycle(computed.reconstructed_target, batch.target_image),
            **source_adversarial_terms(computed.source_scores),
        }

    def _discriminator_losses(self, batch: Batch, computed: Computed) -> dict[str, torch.Tensor]:
        """Returns the losses of D_t, D_s and D_p; only a pool that exchanges fakes has their scores computed again."""
        forward = self.forward
        target_scores, source_scores = computed.target_scores, computed.source_scores
        if self.target_pool.size > 0:
            target_scores = forward.target_discriminator(self.target_pool(computed.fake_target.detach()))
        if self.source_pool.size > 0:
            source_scores = forward.source_discriminator(self.source_pool(computed.fake_source.detach()))
        real_scores, reconstructed_scores = forward.source_discriminator(batch.source_image), None
        if source_scores.shape[1] > 1:
            reconstructed_scores = forward.source_discriminator(computed.reconstructed_source.detach())
        found = {
            "target_discriminator": losses.discriminate(
                forward.target_discriminator(batch.target_image), target_scores
            ),
            "source_discriminator": source_discriminator_loss(real_scores, source_scores, reconstructed_scores),
        }
        if forward.prediction_discriminator is not None and computed.prediction_scores is not None:
            fake_scores = forward.prediction_discriminator(computed.fake_logits.detach())
            found["prediction_discriminator"] = losses.discriminate(fake_scores, computed.prediction_scores)
        return found

    def _scaled(self, loss: torch.Tensor) -> torch.Tensor:
        return self.precision.scaler.scale(loss)

    def _backward_to_cut(self, after: Terms, fake_source: torch.Tensor, epoch: int) -> Terms:
        """Returns the gradient of each term at the cut; the same pass gives G_t its gradient of the target cycle."""
        generator = parameters_of(self.optimizers["target_generator"])
        weight = self.loss_weights.at("target_generator", LossTerms.TARGET_CYCLE, epoch)
        at_cut: Terms = {}
        for term, loss in after.items():
            passed = generator if term is LossTerms.TARGET_CYCLE else []
            self._scaled(loss).backward(inputs=[fake_source, *passed], retain_graph=True)
            assert fake_source.grad is not None
            at_cut[term], fake_source.grad = fake_source.grad, None
        for parameter in generator:
            assert parameter.grad is not None
            parameter.grad *= weight
        return at_cut

    def _backward(
        self,
        module: str,
        before: Terms,
        epoch: int,
        translated: torch.Tensor | None = None,
        at_cut: Terms | None = None,
    ) -> None:
        """Adds to the gradients of `module` those of its terms before the cut and those that arrive at the cut."""
        weights = {term: self.loss_weights.at(module, term, epoch) for term in TERMS[module]}
        ends = [self._scaled(weights[term] * loss) for term, loss in before.items() if weights.get(term)]
        gradients: list[torch.Tensor | None] = [None] * len(ends)  # of a scalar: 1
        arrived = [weights[term] * gradient for term, gradient in (at_cut or {}).items() if weights.get(term)]
        if translated is not None and arrived:
            ends.append(translated)
            gradients.append(torch.stack(arrived).sum(dim=0))
        if ends:
            own = parameters_of(self.optimizers[module])
            torch.autograd.backward(ends, gradients, inputs=own, retain_graph=True)
