"""The mean of the class probabilities of several segmenters, and of each over flips of its images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

UNFLIPPED: tuple[int, ...] = ()


class NetworkAverage(nn.Module):
    """Averages segmenters; takes the place of one.

    Args:
        networks: segmenters with the same classes, in evaluation mode.
        flips: axes of the images that are reversed for each pass, 2 for rows and 3 for columns; the result is reversed
            back. The empty tuple is the image as it is.
    """

    def __init__(self, networks: Sequence[nn.Module], flips: Sequence[Sequence[int]] = (UNFLIPPED,)) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.flips = [list(axes) for axes in flips]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_channels, H, W) to the logarithm of the mean probabilities, (B, out_channels, H, W).

        Its softmax is the mean: the result is used like the logits of one network.
        """
        passes = [(network, axes) for network in self.networks for axes in self.flips]
        total = sum(network(image.flip(axes)).float().softmax(dim=1).flip(axes) for network, axes in passes)
        assert isinstance(total, torch.Tensor)
        return (total / len(passes)).log()
