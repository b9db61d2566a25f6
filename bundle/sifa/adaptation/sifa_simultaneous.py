"""One iteration of SIFA with all updates at once: every image is made once, and each module gets its own gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sifa.adaptation import losses
from sifa.adaptation.loss_weights import COLUMNS
from sifa.adaptation.sifa import AdversarialUpdate, Batch, by_name
from sifa.training.mixed_precision import parameters_of
from sifa.utils.keys import UPDATES, LossTerms, SIFAKeys

Terms = dict[LossTerms, torch.Tensor]


@dataclass
class Forward:
    """All that the networks make of a batch, once, with its graph; images and logits (B, C, H, W)."""

    fake_target: torch.Tensor
    translated: torch.Tensor  # U(E(x_t)), with the graph that leads to E and U
    fake_source: torch.Tensor  # the same values behind the cut: a leaf
    reconstructed_source: torch.Tensor
    reconstructed_target: torch.Tensor
    fake_logits: torch.Tensor
    target_logits: torch.Tensor
    target_scores: torch.Tensor  # D_t of G_t(x_s)
    source_scores: torch.Tensor  # D_s of U(E(x_t)), behind the cut
    prediction_scores: torch.Tensor | None  # D_p of C(E(x_t))


class SimultaneousUpdate(AdversarialUpdate):
    """`iteration_update` of a `monai.engines.Trainer`: all updates from the weights that the iteration began with.

    In the paper's order (`AdversarialUpdate`) each update sees the ones before it, so images are made anew for it. Here
    all of them are made once, and each module takes from that one graph the gradient of its own column of the weight
    matrix: what its loss alone would give it. Arguments are those of `AdversarialUpdate`.

    The graph is cut at U(E(x_t)): the columns weight the terms behind it differently, so the gradient of each term is
    taken once, up to the cut, and goes on from there with the weights of U, and with those of E and C.
    """

    def _update_all(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        made = self._make(batch)
        before, behind = self._terms_before_cut(batch, made, epoch), self._terms_behind_cut(batch, made)
        terms = before | behind
        totals = {
            module: self.loss_weights.total(module, {term: terms[term] for term in column if term in terms}, epoch)
            for module, column in COLUMNS.items()
        }
        judged = self._discriminator_losses(batch, made)
        totals |= judged

        for name in totals:
            self.optimizers[name].zero_grad()
        at_cut = self._pull_back_to_cut(behind, made.fake_source, epoch)
        self._pull_back("target_generator", before, epoch)
        self._pull_back("segmenter", before, epoch, made.translated, at_cut)
        self._pull_back("source_decoder", before, epoch, made.translated, at_cut)
        for name, loss in judged.items():
            self._scaled(loss).backward(inputs=parameters_of(self.optimizers[name]), retain_graph=True)

        output = by_name(terms)
        for name in UPDATES:
            if name in totals:
                output |= self.precision.move(name, self.optimizers[name], totals[name])
        if self.prediction_discriminator is not None:
            output["prediction_adversarial_weight"] = self.prediction_weight(epoch)
        return {
            **output,
            SIFAKeys.LOSS: totals["segmenter"],
            SIFAKeys.FAKE_TARGET: made.fake_target,
            SIFAKeys.FAKE_SOURCE: made.fake_source,
            SIFAKeys.RECONSTRUCTED_SOURCE: made.reconstructed_source,
            SIFAKeys.RECONSTRUCTED_TARGET: made.reconstructed_target,
            SIFAKeys.PRED: made.target_logits,
        }

    def _make(self, batch: Batch) -> Forward:
        fake_target = self._translate_source(batch)
        with self._running_statistics_held():
            fake_latent = self.encoder(fake_target)
        target_latent = self.encoder(batch.target_image)
        translated = self.decoder(target_latent, batch.target_image)
        fake_source = translated.detach().requires_grad_()
        target_logits = self.classifier(target_latent)
        discriminator = self.prediction_discriminator
        return Forward(
            fake_target=fake_target,
            translated=translated,
            fake_source=fake_source,
            reconstructed_source=self.decoder(fake_latent, fake_target),
            reconstructed_target=self._translate_back(fake_source, target_logits),
            fake_logits=self.classifier(fake_latent),
            target_logits=target_logits,
            target_scores=self.target_discriminator(fake_target),
            source_scores=self.source_discriminator(fake_source),
            prediction_scores=None if discriminator is None else discriminator(target_logits),
        )

    def _terms_before_cut(self, batch: Batch, made: Forward, epoch: int) -> Terms:
        terms: Terms = {
            LossTerms.SEGMENTATION: self.segmentation_loss(made.fake_logits, batch.source_label),
            LossTerms.SOURCE_CYCLE: losses.cycle(made.reconstructed_source, batch.source_image),
            LossTerms.TARGET_ADVERSARIAL: losses.fool(made.target_scores),
        }
        if made.prediction_scores is not None:
            terms[LossTerms.PREDICTION_ADVERSARIAL] = losses.fool(made.prediction_scores)
        return terms | self._view_terms(batch, epoch)

    def _terms_behind_cut(self, batch: Batch, made: Forward) -> Terms:
        terms: Terms = {
            LossTerms.TARGET_CYCLE: losses.cycle(made.reconstructed_target, batch.target_image),
            LossTerms.SOURCE_ADVERSARIAL: losses.fool(made.source_scores[:, 0]),
        }
        if made.source_scores.shape[1] > 1:
            terms[LossTerms.AUXILIARY_ADVERSARIAL] = losses.fool(made.source_scores[:, 1])
        return terms

    def _discriminator_losses(self, batch: Batch, made: Forward) -> dict[str, torch.Tensor]:
        """Returns what D_t, D_s and D_p minimize; scores of fakes are there already unless a pool exchanges them."""
        target_scores, source_scores = made.target_scores, made.source_scores
        if self.target_pool.size > 0:
            target_scores = self.target_discriminator(self.target_pool(made.fake_target.detach()))
        if self.source_pool.size > 0:
            source_scores = self.source_discriminator(self.source_pool(made.fake_source.detach()))
        real_scores = self.source_discriminator(batch.source_image)
        source_loss = losses.discriminate(real_scores[:, 0], source_scores[:, 0])
        if source_scores.shape[1] > 1:
            reconstructed_scores = self.source_discriminator(made.reconstructed_source.detach())
            source_loss = source_loss + losses.discriminate(reconstructed_scores[:, 1], source_scores[:, 1])
        found = {
            "target_discriminator": losses.discriminate(self.target_discriminator(batch.target_image), target_scores),
            "source_discriminator": source_loss,
        }
        if self.prediction_discriminator is not None and made.prediction_scores is not None:
            fake_scores = self.prediction_discriminator(made.fake_logits.detach())
            found["prediction_discriminator"] = losses.discriminate(fake_scores, made.prediction_scores)
        return found

    def _scaled(self, loss: torch.Tensor) -> torch.Tensor:
        return self.precision.scaler.scale(loss)

    def _pull_back_to_cut(self, behind: Terms, fake_source: torch.Tensor, epoch: int) -> Terms:
        """Returns the gradient of each term at the cut, and gives G_t its gradient of the target cycle on the way."""
        generator = parameters_of(self.optimizers["target_generator"])
        weight = self.loss_weights.at("target_generator", LossTerms.TARGET_CYCLE, epoch)
        at_cut: Terms = {}
        for term, loss in behind.items():
            on_the_way = generator if term is LossTerms.TARGET_CYCLE else []
            self._scaled(loss).backward(inputs=[fake_source, *on_the_way], retain_graph=True)
            assert fake_source.grad is not None
            at_cut[term], fake_source.grad = fake_source.grad, None
        for parameter in generator:
            assert parameter.grad is not None
            parameter.grad *= weight
        return at_cut

    def _pull_back(
        self,
        module: str,
        before: Terms,
        epoch: int,
        translated: torch.Tensor | None = None,
        at_cut: Terms | None = None,
    ) -> None:
        """Adds to the gradients of `module` those of its terms before the cut, and what has arrived at the cut."""
        weights = {term: self.loss_weights.at(module, term, epoch) for term in COLUMNS[module]}
        ends = [self._scaled(weights[term] * loss) for term, loss in before.items() if weights.get(term)]
        gradients: list[torch.Tensor | None] = [None] * len(ends)  # of a scalar: 1
        arrived = [weights[term] * gradient for term, gradient in (at_cut or {}).items() if weights.get(term)]
        if translated is not None and arrived:
            ends.append(translated)
            gradients.append(torch.stack(arrived).sum(dim=0))
        if ends:
            own = parameters_of(self.optimizers[module])
            torch.autograd.backward(ends, gradients, inputs=own, retain_graph=True)
