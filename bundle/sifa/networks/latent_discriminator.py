"""A discriminator of latents or other activations at the resolution of the latents."""

from __future__ import annotations

import torch
from torch import nn

from sifa.networks.blocks import initialize_convolutions, scaled


class LatentDiscriminator(nn.Sequential):
    """Classifies each location by itself: 1x1 convolutions 512, 512, 1 with LeakyReLU(0.2) and no norm.

    As the discriminators of ADDA (Tzeng et al., CVPR 2017), whose fully connected layers become 1x1 convolutions on
    maps, as in CyCADA's code. A discriminator of patches has no room on the latents of small slices, which have 8 x 8
    locations for 64 x 64 pixels.

    Args:
        in_channels: channels of the input.
        width: factor on the channel numbers of the hidden layers; 1 is the paper's.
        init_std: standard deviation of the convolution weights at the start.
    """

    def __init__(self, in_channels: int = 512, width: float = 1.0, init_std: float = 0.02) -> None:
        hidden = scaled(512, width)
        super().__init__(
            nn.Conv2d(in_channels, hidden, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, hidden, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, 1, 1),
        )
        initialize_convolutions(self, init_std)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to scores (B, 1, H, W) without an activation."""
        return super().forward(features)
