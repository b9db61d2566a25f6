"""G_t, the generator from source to target images."""

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


class TargetGenerator(nn.Module):
    """G_t: CycleGAN's generator, 7x7-32, 3x3/2-64, 3x3/2-128, 9 residual blocks, 2 deconvolutions, 7x7.

    The output is tanh(x + f(x)). Affine instance norm. 2.85 M parameters at width 1.

    Its input may include the class probabilities of each pixel, which separate tissues that look alike in the source
    but differ in the target, such as blood and fat. It runs in training only, where source images have labels.

    Args:
        channels: channels of the source and of the target image.
        width: factor on all channel numbers; 1 is the paper's.
        num_blocks: number of residual blocks.
        init_std: standard deviation of the convolution weights at the start.
        num_classes: number of classes whose probabilities are part of the input; 0: the image alone, as in the paper.
    """

    def __init__(
        self,
        channels: int = 1,
        width: float = 1.0,
        num_blocks: int = 9,
        init_std: float = 0.02,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        c32, c64, c128 = (scaled(number, width) for number in (32, 64, 128))
        self.layers = nn.Sequential(
            ConvNormReLU(channels + num_classes, c32, 7, instance_norm(c32), convolution=ThinConv2d),
            ConvNormReLU(c32, c64, 3, instance_norm(c64), stride=2),
            ConvNormReLU(c64, c128, 3, instance_norm(c128), stride=2),
            *(ResidualBlock(c128, c128, (instance_norm(c128), instance_norm(c128))) for _ in range(num_blocks)),
            DeconvNormReLU(c128, c64, instance_norm(c64)),
            DeconvNormReLU(c64, c32, instance_norm(c32)),
            ThinConv2d(c32, channels, 7, padding=3),
        )
        initialize_convolutions(self, init_std)

    def forward(self, image: torch.Tensor, probabilities: torch.Tensor | None = None) -> torch.Tensor:
        """Maps source images to target images.

        Args:
            image: (B, channels, H, W) in [-1, 1], H and W multiples of 4.
            probabilities: of the classes at each pixel, (B, num_classes, H, W); None where `num_classes` is 0.

        Returns:
            (B, channels, H, W) in [-1, 1].
        """
        inputs = image if probabilities is None else torch.cat([image, probabilities], dim=1)
        return torch.tanh(image + self.layers(inputs.contiguous()))
