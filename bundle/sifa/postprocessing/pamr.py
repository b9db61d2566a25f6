"""PAMR: pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020), which moves outlines to edges of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional


def refine_with_pamr(
    probabilities: torch.Tensor,
    image: torch.Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = (1, 2, 4),
    contrast: float = 0.1,
) -> torch.Tensor:
    """Replaces, in each iteration, the probabilities of a pixel by a mean over neighbors of similar intensity.

    Araslanov and Roth, "Single-stage semantic segmentation from image labels", CVPR 2020: p_i becomes the sum over
    neighbors j of a_ij p_j; a_i is the softmax over j of -|x_i - x_j| / contrast. Neighbors are the eight around a
    pixel at each of the `dilations`. The authors divide the difference by the standard deviation of the neighbors,
    which is small where there is nothing but noise; here the contrast is fixed.

    Args:
        probabilities: (B, num_classes, H, W), sum to 1 over classes.
        image: the segmented image, (B, C, H, W) in [-1, 1].
        iterations: number of iterations; 0 returns the probabilities unchanged.
        dilations: distances of the neighbors, in pixels.
        contrast: difference of intensities that divides the weight of a neighbor by e.

    Returns:
        Probabilities of the same shape.
    """
    if iterations == 0:
        return probabilities
    differences = [(one - image).abs().mean(dim=1, keepdim=True) for one in _neighbors(image, dilations)]
    weights = (-torch.stack(differences) / contrast).softmax(dim=0)
    for _ in range(iterations):
        mean = torch.zeros_like(probabilities)
        for weight, neighbor in zip(weights, _neighbors(probabilities, dilations), strict=True):
            mean.addcmul_(weight, neighbor)
        probabilities = mean
    return probabilities


def _neighbors(values: torch.Tensor, dilations: Sequence[int]) -> Iterator[torch.Tensor]:
    """Yields `values` (B, C, H, W) shifted to each neighbor; the border is repeated."""
    height, width = values.shape[2:]
    for dilation in dilations:
        padded = functional.pad(values, [dilation] * 4, mode="replicate")
        for down in (0, dilation, 2 * dilation):
            for right in (0, dilation, 2 * dilation):
                if (down, right) != (dilation, dilation):
                    yield padded[:, :, down : down + height, right : right + width]
