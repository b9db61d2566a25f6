"""Segmentation from target images and unpaired masks alone, after the idea of Joyce et al. (MIDL 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.networks import one_hot
from torch import nn
from torch.optim import Optimizer

from sifa.adaptation import losses
from sifa.adaptation.loss_weights import Columns, LossWeights, by_name
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.segmenter_terms import SEGMENTER_TERMS, SegmenterTerms
from sifa.adaptation.self_training import SelfTraining
from sifa.networks import Segmenter
from sifa.training.iteration_update import Batch, Stateful, present
from sifa.training.mixed_precision import MixedPrecision, in_full
from sifa.utils.keys import LossTerms, SIFAKeys

TERMS = {"segmenter": (LossTerms.MASK_ADVERSARIAL, LossTerms.WITHIN_CLASS, *SEGMENTER_TERMS)}


class MasksAlone:
    """Updates E + C, whose masks of target images pass for masks of the source, and a discriminator D_m of masks.

    Source images are not used, only their labels. With p = softmax(C(E(x_t))), (B, num_classes, H, W), and its arg max
    q, one-hot, through which gradients flow as if q were p (straight-through):

        E, C minimize   w_1 mean (D_m(q) - 1)^2 + w_2 V(p, x_t)
        D_m minimizes   1/2 [mean (D_m(one_hot(y_s)) - 1)^2 + mean D_m(q)^2]
        V               the share of the intensity variance that the classes leave unexplained, see
                        `unexplained_variance`

    What is known of Joyce et al. ("Deep Multi-Class Segmentation Without Ground-Truth Labels") from the abstract: a
    network maps images of one modality to masks, an adversary compares these with masks of another data set of the same
    anatomy, and further unsupervised costs tie the masks to the image. Which costs these are could not be verified, nor
    the networks; V, and the straight-through arg max as in the same group's SDNet, are ours. This is therefore not
    their method, but a lower bound of what masks alone can teach.

    Args:
        segmenter: C(E(.)).
        mask_discriminator: D_m, from masks (B, num_classes, H, W) to scores.
        optimizers: of `segmenter` (E and C) and `mask_discriminator`.
        loss_weights: the column `segmenter` of the weight matrix.
        segmentation_loss: Eq. 3 of SIFA, for the terms of views; the method itself does not use it.
        precision: the precision that the networks compute in; None: float32.
        self_training: labels target images for the term `self_training`; None: the term has no weight.

    Raises:
        InputError: when `loss_weights` names a module or term that the method does not have.
    """

    name = "masks_alone"

    def __init__(
        self,
        segmenter: Segmenter,
        mask_discriminator: nn.Module,
        optimizers: Mapping[str, Optimizer],
        loss_weights: Columns,
        segmentation_loss: SegmentationLoss,
        precision: MixedPrecision | None = None,
        self_training: SelfTraining | None = None,
    ) -> None:
        self.networks: Mapping[str, nn.Module] = {"segmenter": segmenter, "mask_discriminator": mask_discriminator}
        self.frozen: Mapping[str, nn.Module] = {}
        self.optimizers = {name: optimizers[name] for name in self.networks}
        self.shared_state: Mapping[str, Stateful] = present(self_training=self_training)
        self.process_state: Mapping[str, Stateful] = {}
        self.loss_weights = LossWeights(loss_weights, TERMS)
        self.precision = precision or MixedPrecision()
        self.segment = self.precision.forward(segmenter)
        self.discriminator = self.precision.forward(mask_discriminator)
        self.segmenter_terms = SegmenterTerms(
            segmenter, self.loss_weights, segmentation_loss, self.precision, self_training
        )

    def step(self, batch: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Updates E + C and D_m; see `sifa.training.iteration_update.Method`."""
        target_logits = self.segment(batch.target_image)
        probabilities = in_full(target_logits).softmax(dim=1)
        mask = straight_through(probabilities)
        terms = {
            LossTerms.MASK_ADVERSARIAL: losses.fool(self.discriminator(mask)),
            LossTerms.WITHIN_CLASS: unexplained_variance(probabilities, batch.target_image),
            **self.segmenter_terms(batch, epoch),
        }
        loss = self.loss_weights.total("segmenter", terms, epoch)
        report = self.precision.step("segmenter", self.optimizers["segmenter"], loss)
        real = one_hot(batch.source_label, probabilities.shape[1], probabilities.dtype)
        mask_loss = losses.discriminate(self.discriminator(real), self.discriminator(mask.detach()))
        report |= self.precision.step("mask_discriminator", self.optimizers["mask_discriminator"], mask_loss)
        return {
            **by_name(terms),
            **report,
            **self.loss_weights.scheduled(epoch),
            SIFAKeys.LOSS: loss,
            SIFAKeys.PRED: target_logits,
        }


def straight_through(probabilities: torch.Tensor) -> torch.Tensor:
    """Returns the arg max of probabilities in one-hot form, with the gradient of the probabilities.

    Args:
        probabilities: (B, num_classes, H, W), sums over classes are 1.
    """
    hard = one_hot(probabilities.argmax(dim=1, keepdim=True), probabilities.shape[1], probabilities.dtype)
    return hard + probabilities - probabilities.detach()


def unexplained_variance(probabilities: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Returns the share of the intensity variance that the classes leave unexplained, a scalar in [0, 1].

    With the pixels i of an image, m_k = sum_i p_ik x_i / sum_i p_ik the mean intensity of class k:

        V = sum_k sum_i p_ik (x_i - m_k)^2 / sum_i (x_i - mean(x))^2, mean over the images of the batch

    0 where the image is constant within each class, 1 where the mask says nothing about the image.

    Args:
        probabilities: (B, num_classes, H, W), sums over classes are 1.
        image: (B, C, H, W); sums go over the channels as well.
    """
    pixels, shares = image.flatten(2)[:, None], probabilities.flatten(2)[:, :, None]  # (B, 1, C, N), (B, K, 1, N)
    means = (shares * pixels).sum(-1, keepdim=True) / shares.sum(-1, keepdim=True).clamp(min=1e-6)
    within = (shares * (pixels - means).square()).sum((1, 2, 3))
    total = (pixels - pixels.mean(-1, keepdim=True)).square().sum((1, 2, 3))
    return (within / total.clamp(min=1e-6)).mean()
