"""PnP-AdaNet (Dou et al., IJCAI 2018, IEEE Access 2019): early layers adapt, the later ones are shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation.loss_weights import Columns, LossWeights, by_name
from sifa.adaptation.losses import SegmentationLoss, wasserstein_discriminate, wasserstein_fool
from sifa.adaptation.segmenter_terms import SEGMENTER_TERMS, SegmenterTerms
from sifa.adaptation.self_training import SelfTraining
from sifa.networks import Segmenter, TappedSegmenter
from sifa.networks.weights import clip_weights
from sifa.training.iteration_update import Batch, Stateful, present
from sifa.training.mixed_precision import MixedPrecision
from sifa.utils.errors import InputError
from sifa.utils.keys import LossTerms, SIFAKeys

TERMS = {"segmenter": (LossTerms.FEATURE_ADVERSARIAL, LossTerms.MASK_ADVERSARIAL, *SEGMENTER_TERMS)}


class PnPAdaNet:
    """Updates two critics in each iteration, and the domain adaptation module (DAM) in every n-th.

    The DAM is a copy, for target images, of the first layers of E; the layers after it and C are those of the source,
    shared and frozen. With c the critic of features, m the critic of masks, and w the weight of `mask_adversarial`:

        c, m minimize   mean c(x_t) - mean c(x_s) and mean m(x_t) - mean m(x_s); their weights are clipped to +-clip
        DAM minimizes   -mean c(x_t) - w mean m(x_t)

    c sees the outputs of several layers, the scores and the probabilities; m sees the scores at full size.

    Batch norm: source images and the frozen layers always use the stored statistics of the source. The DAM uses its
    stored statistics when the critics are updated, and those of the batch, which enter the stored ones, when it is
    updated itself.

    The authors' code (carrenD/Medical-Cross-Modality-Domain-Adaptation) rearranges the activations to the size of the
    image and gives c the arg max of the scores; here c classifies single locations of the latents, which have too
    little room for a critic of patches, and sees the probabilities, which have a gradient. The authors make 20 updates
    of the critics for one of the DAM, each with a new batch, as here. Their schedule begins with 20,000 updates of the
    critics alone; here a weight of 0 in the first epochs does the same.

    Args:
        segmenter: C(E(.)) with the weights of the first stage; the optimizer decides that only the DAM moves.
        source_segmenter: the segmenter of the first stage, frozen.
        feature_critic: c, from the tapped activations (B, C', H / 8, W / 8) to scores.
        mask_critic: m, from logits (B, num_classes, H, W) to scores.
        optimizers: of `segmenter` (the parameters of the DAM), `feature_critic` and `mask_critic`.
        loss_weights: the column `segmenter` of the weight matrix.
        segmentation_loss: Eq. 3 of SIFA, for the terms of views; PnP-AdaNet itself does not use it.
        taps: what c sees; see `sifa.networks.TappedSegmenter`.
        adapted_layers: number of layers of E in the DAM.
        critic_steps: iterations, each with an update of the critics, to one update of the DAM.
        clip: bound on the weights of the critics; norms have none.
        precision: the precision that the networks compute in; None: float32.
        self_training: labels target images for the term `self_training`; None: the term has no weight.

    Raises:
        InputError: when `loss_weights` names a module or term that PnP-AdaNet does not have, there is no such tap, or
            a number is out of range.
    """

    name = "pnp_adanet"

    def __init__(
        self,
        segmenter: Segmenter,
        source_segmenter: Segmenter,
        feature_critic: nn.Module,
        mask_critic: nn.Module,
        optimizers: Mapping[str, Optimizer],
        loss_weights: Columns,
        segmentation_loss: SegmentationLoss,
        taps: Sequence[str | int],
        adapted_layers: int,
        critic_steps: int,
        clip: float,
        precision: MixedPrecision | None = None,
        self_training: SelfTraining | None = None,
    ) -> None:
        if not 1 <= adapted_layers <= len(segmenter.encoder.layers):
            raise InputError(
                f"adapted_layers is {adapted_layers!r}: give a number from 1 to {len(segmenter.encoder.layers)}, the "
                "layers of the encoder."
            )
        if critic_steps < 1 or clip <= 0:
            raise InputError(f"critic_steps is {critic_steps!r} and clip is {clip!r}: give positive numbers.")
        self.networks: Mapping[str, nn.Module] = {
            "segmenter": segmenter,
            "feature_critic": feature_critic,
            "mask_critic": mask_critic,
        }
        self.frozen: Mapping[str, nn.Module] = {"source_segmenter": source_segmenter}
        self.optimizers = {name: optimizers[name] for name in self.networks}
        self.counter = Counter()
        self.shared_state: Mapping[str, Stateful] = present(counter=self.counter, self_training=self_training)
        self.process_state: Mapping[str, Stateful] = {}
        self.loss_weights = LossWeights(loss_weights, TERMS)
        self.segmenter = segmenter
        self.adaptation_module = segmenter.encoder.layers[:adapted_layers]
        self.critic_steps = critic_steps
        self.clip = clip
        self.precision = precision or MixedPrecision()
        self.segment = self.precision.forward(TappedSegmenter(segmenter, taps))
        self.segment_source = self.precision.forward(TappedSegmenter(source_segmenter, taps))
        self.feature_critic = self.precision.forward(feature_critic)
        self.mask_critic = self.precision.forward(mask_critic)
        self.segmenter_terms = SegmenterTerms(
            segmenter, self.loss_weights, segmentation_loss, self.precision, self_training
        )

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Updates the critics and, in every n-th iteration, the DAM; see `sifa.training.iteration_update.Method`."""
        self.segmenter.eval()
        with torch.no_grad():
            source_logits, source_features = self.segment_source(batch.source_image)
            target_logits, target_features = self.segment(batch.target_image)
        report = self._update_critic("feature_critic", self.feature_critic, source_features, target_features)
        report |= self._update_critic("mask_critic", self.mask_critic, source_logits, target_logits)
        loss = torch.zeros(())
        self.counter.count += 1
        if self.counter.count % self.critic_steps == 0:
            self.adaptation_module.train()
            terms = self._terms(batch, epoch)
            report |= by_name(terms)
            if self.loss_weights.any_used("segmenter", terms, epoch):
                loss = self.loss_weights.total("segmenter", terms, epoch)
                report |= self.precision.step("segmenter", self.optimizers["segmenter"], loss)
        return {
            **report,
            **self.loss_weights.scheduled(epoch),
            SIFAKeys.LOSS: loss,
            SIFAKeys.PRED: target_logits,
        }

    def _terms(self, batch: Batch, epoch: int) -> dict[LossTerms, torch.Tensor]:
        target_logits, target_features = self.segment(batch.target_image)
        return {
            LossTerms.FEATURE_ADVERSARIAL: wasserstein_fool(self.feature_critic(target_features)),
            LossTerms.MASK_ADVERSARIAL: wasserstein_fool(self.mask_critic(target_logits)),
            **self.segmenter_terms(batch, epoch),
        }

    def _update_critic(
        self, name: str, critic: Any, source: torch.Tensor, target: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Updates a critic on inputs without a graph, and clips its weights."""
        loss = wasserstein_discriminate(critic(source), critic(target))
        report = self.precision.step(name, self.optimizers[name], loss)
        clip_weights(self.networks[name], self.clip)
        return report


class Counter:
    """The number of iterations so far, which a checkpoint keeps."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, int]:
        """Returns the number."""
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restores the state that `state_dict` returned."""
        self.count = state["count"]
