"""The building blocks of E, G_t and U."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from sifa.utils.errors import InputError


def scaled(channels: int, width: float) -> int:
    """Returns `channels * width`, rounded to the nearest even number and at least 2.

    The number is even so that a residual block that adds channels pads its identity equally on both sides.

    Raises:
        InputError: when `width` is not positive.
    """
    if width <= 0:
        raise InputError(f"the network width is {width}: give a positive number (1 is the paper's).")
    return max(2, 2 * round(channels * width / 2))


def batch_norm(channels: int) -> nn.Module:
    """Batch normalization, the norm of E."""
    return nn.BatchNorm2d(channels)


def instance_norm(channels: int) -> nn.Module:
    """Affine instance normalization, the norm of G_t, U and the discriminators.

    As group norm with a group for each channel, which is the same and faster than `nn.InstanceNorm2d` on CPUs.
    """
    return nn.GroupNorm(channels, channels)


def initialize_convolutions(module: nn.Module, std: float) -> None:
    """Draws all convolution weights of `module` from N(0, std^2) and sets biases to 0 (authors' `layers.py`)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class ConvNormReLU(nn.Sequential):
    """Convolution, norm and ReLU; zero padding keeps the size at stride 1.

    Shapes: (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        norm: nn.Module,
        stride: int = 1,
        convolution: type[nn.Conv2d] = nn.Conv2d,
    ) -> None:
        super().__init__(
            convolution(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
            norm,
            nn.ReLU(),
        )


class DeconvNormReLU(nn.Sequential):
    """3x3 transposed convolution of stride 2, norm and ReLU: (B, in_channels, H, W) to (B, out_channels, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int, norm: nn.Module) -> None:
        super().__init__(
            nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False),
            norm,
            nn.ReLU(),
        )


class ResidualBlock(nn.Module):
    """ReLU(x + f(x)), where f is two 3x3 convolutions with norms, a ReLU in between (the paper's R; D with dilation 2).

    Where channels are added, the identity is padded with zero channels, half of them on each side (authors'
    `build_resnet_block_ds`). Shapes: (B, in_channels, H, W) to (B, out_channels, H, W).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, not fewer than `in_channels`.
        norms: the norms after the first and the second convolution.
        dilation: dilation, and zero padding, of both convolutions.

    Raises:
        ValueError: when `out_channels` is smaller than `in_channels`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norms: tuple[nn.Module, nn.Module], dilation: int = 1
    ) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise ValueError(f"a residual block cannot shrink from {in_channels} to {out_channels} channels.")
        growth = out_channels - in_channels
        self.pad_front = growth // 2
        self.pad_back = growth - growth // 2
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
            norms[0],
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
            norms[1],
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W)."""
        identity = functional.pad(x, [0, 0, 0, 0, self.pad_front, self.pad_back])
        return functional.relu(self.branch(x) + identity)
