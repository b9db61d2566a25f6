"""D_t, D_s and D_p: discriminators that classify overlapping patches."""

from __future__ import annotations

import torch
from torch import nn

from sifa.networks.blocks import initialize_convolutions, instance_norm, scaled
from sifa.networks.thin_conv import ThinConv2d


class PatchDiscriminator(nn.Sequential):
    """PatchGAN with a receptive field of 70x70: 4x4 convolutions 64/2, 128/2, 256/2, 512/1, out_channels/1.

    Affine instance norm and LeakyReLU(0.2) on the first four, zero padding 2. About 2.77 M parameters at width 1.

    Args:
        in_channels: channels of the input: of the image for D_t and D_s, the number of classes for D_p.
        out_channels: scores per patch: 1, or 2 for D_s (realism; auxiliary: reconstructed source or translated target).
        width: factor on all channel numbers; 1 is the paper's.
        norm_first: whether a norm follows the first convolution (paper: yes; authors' code: no).
        init_std: standard deviation of the convolution weights at the start.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: float = 1.0,
        norm_first: bool = True,
        init_std: float = 0.02,
    ) -> None:
        layers: list[nn.Module] = []
        previous = in_channels
        for index, (channels, stride) in enumerate(((64, 2), (128, 2), (256, 2), (512, 1))):
            current = scaled(channels, width)
            layers.append(nn.Conv2d(previous, current, 4, stride, padding=2))
            if index > 0 or norm_first:
                layers.append(instance_norm(current))
            layers.append(nn.LeakyReLU(0.2))
            previous = current
        layers.append(ThinConv2d(previous, out_channels, 4, 1, padding=2))
        super().__init__(*layers)
        self.out_channels = out_channels
        initialize_convolutions(self, init_std)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to scores (B, out_channels, about H / 8, about W / 8): 1 is real, 0 is fake."""
        return super().forward(image.contiguous())  # channels last, as logits are, would slow down instance norm
