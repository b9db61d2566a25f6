"""The loss terms of SIFA: functions from images, logits and discriminator scores to scalars.

`TERMS` lists what each module can minimize; `configs/train.yaml` gives the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sifa.adaptation import losses
from sifa.adaptation.loss_weights import LossWeights
from sifa.adaptation.segmenter_terms import SEGMENTER_TERMS
from sifa.adaptation.sifa_networks import SIFANetworks
from sifa.training.iteration_update import Batch
from sifa.utils.errors import InputError
from sifa.utils.keys import LossTerms

Terms = dict[LossTerms, torch.Tensor]

TERMS: Mapping[str, tuple[LossTerms, ...]] = {  # by module: the terms that its gradient can reach and the method uses
    "target_generator": (LossTerms.SOURCE_CYCLE, LossTerms.TARGET_CYCLE, LossTerms.TARGET_ADVERSARIAL),
    "segmenter": (
        LossTerms.SEGMENTATION,
        LossTerms.SOURCE_CYCLE,
        LossTerms.TARGET_CYCLE,
        LossTerms.SOURCE_ADVERSARIAL,
        LossTerms.AUXILIARY_ADVERSARIAL,
        LossTerms.PREDICTION_ADVERSARIAL,
        *SEGMENTER_TERMS,
    ),
    "source_decoder": (
        LossTerms.SOURCE_CYCLE,
        LossTerms.TARGET_CYCLE,
        LossTerms.SOURCE_ADVERSARIAL,
        LossTerms.AUXILIARY_ADVERSARIAL,
    ),
}


def check_heads(loss_weights: LossWeights, networks: SIFANetworks) -> None:
    """Refuses a weight of FA-P without D_p, and one of FA-I without the auxiliary head of D_s.

    Raises:
        InputError: when a term has a weight and its discriminator or head does not exist.
    """
    missing = {}
    if networks.prediction_discriminator is None:
        missing[LossTerms.PREDICTION_ADVERSARIAL] = "networks#prediction_discriminator is null"
    if networks.source_discriminator.out_channels < 2:
        missing[LossTerms.AUXILIARY_ADVERSARIAL] = "source_discriminator#out_channels is 1"
    for term, reason in missing.items():
        for module in TERMS:
            if loss_weights.is_used(module, term):
                raise InputError(
                    f"loss_weights#{module}#{term.value} is not 0, but {reason}: set the weight to 0, or put the "
                    "overlay that removes this part after recommended.yaml."
                )


def cycle_terms(batch: Batch, reconstructed_source: torch.Tensor, reconstructed_target: torch.Tensor) -> Terms:
    """Returns both halves of Eq. 2.

    Args:
        batch: x_s and x_t.
        reconstructed_source: U(E(G_t(x_s))), (B, C, H, W).
        reconstructed_target: G_t(U(E(x_t))), (B, C, H, W).
    """
    return {
        LossTerms.SOURCE_CYCLE: losses.cycle(reconstructed_source, batch.source_image),
        LossTerms.TARGET_CYCLE: losses.cycle(reconstructed_target, batch.target_image),
    }


def source_adversarial_terms(scores: torch.Tensor) -> Terms:
    """Returns the terms with which U(E(x_t)) fools D_s: realism and, where there is an auxiliary head, Eq. 5 (FA-I).

    Args:
        scores: D_s(U(E(x_t))), (B, 1 or 2, H', W').
    """
    terms = {LossTerms.SOURCE_ADVERSARIAL: losses.fool(scores[:, 0])}
    if scores.shape[1] > 1:
        terms[LossTerms.AUXILIARY_ADVERSARIAL] = losses.fool(scores[:, 1])
    return terms


def source_discriminator_loss(
    real_scores: torch.Tensor, fake_scores: torch.Tensor, reconstructed_scores: torch.Tensor | None
) -> torch.Tensor:
    """Returns the loss of D_s: x_s is real and U(E(x_t)) fake; auxiliary head: U(E(G_t(x_s))) is 1, U(E(x_t)) is 0.

    Args:
        real_scores: D_s(x_s), (B, 1 or 2, H', W'); the second channel is the auxiliary head (Eq. 5).
        fake_scores: D_s(U(E(x_t))), of the same shape.
        reconstructed_scores: D_s(U(E(G_t(x_s)))), of the same shape; None without an auxiliary head.
    """
    loss = losses.discriminate(real_scores[:, 0], fake_scores[:, 0])
    if reconstructed_scores is None:
        return loss
    return loss + losses.discriminate(reconstructed_scores[:, 1], fake_scores[:, 1])
