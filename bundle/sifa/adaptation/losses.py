"""The losses of all methods as functions of tensors; the config says which module minimizes which, with what weight.

Half-precision scores and logits are converted to float32 first. Where several processes train together, quantities that
are not means over pixels (class frequencies, Dice) count the batches of all of them, so the averaged gradients equal
those of one process with all the data.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from sifa.training.mixed_precision import in_full
from sifa.utils.distributed import sum_over_processes, world_size


def cycle(reconstructed: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of two images of one shape (half of Eq. 2)."""
    return functional.l1_loss(reconstructed, image)


def fool(scores: torch.Tensor) -> torch.Tensor:
    """The generator's loss: mean of (D - 1)^2 (least-squares GAN, authors' `lsgan_loss_generator`).

    Args:
        scores: the discriminator's scores of the fakes, any shape, without an activation.
    """
    return (in_full(scores) - 1).square().mean()


def discriminate(real_scores: torch.Tensor, fake_scores: torch.Tensor) -> torch.Tensor:
    """The discriminator's loss: half of mean (D(real) - 1)^2 + mean D(fake)^2 (`lsgan_loss_discriminator`).

    Args:
        real_scores: scores of real inputs, any shape, without an activation.
        fake_scores: scores of fake inputs, likewise.
    """
    return 0.5 * ((in_full(real_scores) - 1).square().mean() + in_full(fake_scores).square().mean())


def cross_entropy_fool(scores: torch.Tensor) -> torch.Tensor:
    """The generator's loss with the labels interchanged: mean softplus(-D) (Goodfellow et al., 2014; ADDA, Eq. 7).

    Args:
        scores: the discriminator's raw scores of the fakes, any shape.
    """
    return functional.softplus(-in_full(scores)).mean()


def cross_entropy_discriminate(real_scores: torch.Tensor, fake_scores: torch.Tensor) -> torch.Tensor:
    """The discriminator's binary cross-entropy: half of mean softplus(-D(real)) + mean softplus(D(fake)).

    Args:
        real_scores: raw scores of inputs with label 1, any shape.
        fake_scores: raw scores of inputs with label 0, any shape.
    """
    real_loss, fake_loss = functional.softplus(-in_full(real_scores)), functional.softplus(in_full(fake_scores))
    return 0.5 * (real_loss.mean() + fake_loss.mean())


def discriminator_accuracy(real_scores: torch.Tensor, fake_scores: torch.Tensor) -> torch.Tensor:
    """Share of raw scores on the right side of 0, a scalar: the mean of the shares of both labels.

    Args:
        real_scores: raw scores of inputs with label 1, any shape.
        fake_scores: raw scores of inputs with label 0, any shape.
    """
    return 0.5 * ((real_scores.detach() > 0).float().mean() + (fake_scores.detach() < 0).float().mean())


def wasserstein_fool(scores: torch.Tensor) -> torch.Tensor:
    """The generator's loss against a critic: -mean c(fake) (Arjovsky et al., ICML 2017).

    Args:
        scores: the critic's scores of the fakes, any shape.
    """
    return -in_full(scores).mean()


def wasserstein_discriminate(real_scores: torch.Tensor, fake_scores: torch.Tensor) -> torch.Tensor:
    """The critic's loss: mean c(fake) - mean c(real), minus the estimated distance of both (Arjovsky et al., 2017).

    Args:
        real_scores: the critic's scores of the reference, any shape.
        fake_scores: the critic's scores of the fakes, any shape.
    """
    return in_full(fake_scores).mean() - in_full(real_scores).mean()


def cross_entropy(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Plain cross-entropy, mean over all pixels.

    Args:
        logits: (B, num_classes, H, W).
        label: class indices (B, 1, H, W) of any integer type.
    """
    return functional.cross_entropy(in_full(logits), label.squeeze(1).long())


def class_frequencies(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Share of each class among all pixels of a batch, of all processes: (num_classes,), sums to 1.

    Args:
        label: class indices, any shape, integer type.
        num_classes: number of classes, background included.
    """
    counts = torch.bincount(label.flatten(), minlength=num_classes).to(torch.float32)
    return sum_over_processes(counts) / (label.numel() * world_size())


def weighted_cross_entropy(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with class weight 1 - frequency in the batch, mean over all pixels (`_softmax_weighted_loss`).

    The authors clip probabilities at 0.005, which removes the gradient where the prediction is worst; this function
    does not.

    Args:
        logits: (B, num_classes, H, W).
        label: class indices (B, H, W), int64.
    """
    weights = 1 - class_frequencies(label, logits.shape[1]).to(logits.dtype)
    return (weights[label] * functional.cross_entropy(logits, label, reduction="none")).mean()


def soft_dice(logits: torch.Tensor, label: torch.Tensor, epsilon: float = 1e-7) -> torch.Tensor:
    """1 - mean over all classes of 2 sum(p g) / (sum(p^2) + sum(g^2)), sums over the batch (`_dice_loss_fun`).

    The batch is that of all processes.

    Args:
        logits: (B, num_classes, H, W).
        label: class indices (B, H, W), int64.
        epsilon: added to the denominator; a class that the batch lacks counts as Dice 0 and has no gradient.
    """
    probabilities = logits.softmax(dim=1)
    truth = functional.one_hot(label, logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
    dims = (0, 2, 3)
    intersection = sum_over_processes((probabilities * truth).sum(dims))
    total = sum_over_processes(probabilities.square().sum(dims) + truth.sum(dims))
    return 1 - (2 * intersection / (total + epsilon)).mean()


class SegmentationLoss:
    """Eq. 3: weighted cross-entropy + `lambda_dice` * soft Dice.

    Args:
        lambda_dice: the paper's alpha.
    """

    def __init__(self, lambda_dice: float) -> None:
        self.lambda_dice = lambda_dice

    def __call__(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Returns the loss of logits (B, num_classes, H, W) against class indices (B, 1, H, W) of any integer type."""
        indices, full = label.squeeze(1).long(), in_full(logits)
        return weighted_cross_entropy(full, indices) + self.lambda_dice * soft_dice(full, indices)
