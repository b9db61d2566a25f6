"""E, the encoder that segmentation and image translation share."""

from __future__ import annotations

import torch
from torch import nn

from sifa.networks.blocks import ConvNormReLU, ResidualBlock, batch_norm, initialize_convolutions, scaled


def _residual(in_channels: int, out_channels: int, dilation: int = 1) -> ResidualBlock:
    return ResidualBlock(in_channels, out_channels, (batch_norm(out_channels), batch_norm(out_channels)), dilation)


class Encoder(nn.Module):
    """E: C16 R16 M R32 M 2xR64 M 2xR128 4xR256 2xR512 2xD512 2xC512 (supplement of the paper).

    C: convolution + batch norm + ReLU (the first 7x7, the others 3x3); R: residual block; D: the same with dilation 2;
    M: 2x2 max pooling. The output has 1/8 of the input's resolution. 27.5 M parameters at width 1. Weights and
    activations are channels last, which batch norm keeps and in which convolutions are faster.

    Args:
        in_channels: channels of the image.
        width: factor on all channel numbers; 1 is the paper's.
        init_std: standard deviation of the convolution weights at the start.
    """

    downsampling = 8

    def __init__(self, in_channels: int = 1, width: float = 1.0, init_std: float = 0.01) -> None:
        super().__init__()
        c16, c32, c64, c128, c256, c512 = (scaled(channels, width) for channels in (16, 32, 64, 128, 256, 512))
        self.out_channels = c512
        self.layers = nn.Sequential(
            ConvNormReLU(in_channels, c16, 7, batch_norm(c16)),
            _residual(c16, c16),
            nn.MaxPool2d(2),
            _residual(c16, c32),
            nn.MaxPool2d(2),
            _residual(c32, c64),
            _residual(c64, c64),
            nn.MaxPool2d(2),
            _residual(c64, c128),
            _residual(c128, c128),
            _residual(c128, c256),
            _residual(c256, c256),
            _residual(c256, c256),
            _residual(c256, c256),
            _residual(c256, c512),
            _residual(c512, c512),
            _residual(c512, c512, dilation=2),
            _residual(c512, c512, dilation=2),
            ConvNormReLU(c512, c512, 3, batch_norm(c512)),
            ConvNormReLU(c512, c512, 3, batch_norm(c512)),
        )
        initialize_convolutions(self, init_std)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_channels, H, W) in [-1, 1] to latents (B, out_channels, H // 8, W // 8)."""
        return self.layers(image)
