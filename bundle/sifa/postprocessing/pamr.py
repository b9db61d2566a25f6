"""Outlines of structures, moved to where the image has edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional


def refine(
    probabilities: torch.Tensor,
    image: torch.Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = (1, 2, 4),
    contrast: float = 0.1,
) -> torch.Tensor:
    """Lets each pixel take the mean of its neighbors that look like it, again and again.

    Pixel-adaptive mask refinement (PAMR) of Araslanov and Roth, "Single-stage semantic segmentation from image labels",
    CVPR 2020: p_i becomes the sum over neighbors j of a_ij p_j; a_i is the softmax over j of -|x_i - x_j| / contrast.
    Neighbors are the eight around a pixel at each of the `dilations`. Where they divide the difference by the standard
    deviation of the neighbors, which is small where there is nothing but noise, this divides by a fixed contrast.

    Args:
        probabilities: (B, num_classes, H, W), sum to 1 over classes.
        image: the image that they are of, (B, C, H, W) in [-1, 1].
        iterations: how often; 0 leaves the probabilities as they are.
        dilations: distances of the neighbors, in pixels.
        contrast: difference of intensities that makes a neighbor count e times less.

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
    """Yields `values` (B, C, H, W) as seen by each neighbor; beyond its border an image goes on as it ends."""
    height, width = values.shape[2:]
    for dilation in dilations:
        padded = functional.pad(values, [dilation] * 4, mode="replicate")
        for down in (0, dilation, 2 * dilation):
            for right in (0, dilation, 2 * dilation):
                if (down, right) != (dilation, dilation):
                    yield padded[:, :, down : down + height, right : right + width]
