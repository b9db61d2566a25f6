"""U, the decoder from latents to source images; U(E(.)) is the source generator."""

from __future__ import annotations

import torch
from torch import nn

from sifa.networks.blocks import (
    ConvNormReLU,
    DeconvNormReLU,
    ResidualBlock,
    initialize_convolutions,
    instance_norm,
    scaled,
)
from sifa.networks.thin_conv import ThinConv2d


class SourceDecoder(nn.Module):
    """U: 3x3-128, 4 residual blocks, 3 deconvolutions (64, 64, 32), 7x7; output tanh(x + f(latent)).

    x is the input image of E. Affine instance norm. 1.90 M parameters at width 1.

    Args:
        in_channels: channels of the latents.
        channels: channels of the image.
        width: factor on all channel numbers; 1 is the paper's.
        num_blocks: number of residual blocks.
        init_std: standard deviation of the convolution weights at the start.
    """

    def __init__(
        self,
        in_channels: int = 512,
        channels: int = 1,
        width: float = 1.0,
        num_blocks: int = 4,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        c32, c64, c128 = (scaled(number, width) for number in (32, 64, 128))
        self.layers = nn.Sequential(
            ConvNormReLU(in_channels, c128, 3, instance_norm(c128)),
            *(ResidualBlock(c128, c128, (instance_norm(c128), instance_norm(c128))) for _ in range(num_blocks)),
            DeconvNormReLU(c128, c64, instance_norm(c64)),
            DeconvNormReLU(c64, c64, instance_norm(c64)),
            DeconvNormReLU(c64, c32, instance_norm(c32)),
            ThinConv2d(c32, channels, 7, padding=3),
        )
        initialize_convolutions(self, init_std)

    def forward(self, latent: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Maps latents (B, in_channels, H / 8, W / 8) of `image` (B, channels, H, W) to source images of its shape."""
        return torch.tanh(image + self.layers(latent.contiguous()))  # E's channels last would slow down instance norm
