"""C, the pixel-wise classifier of the latents."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from sifa.networks.blocks import initialize_convolutions


class PixelClassifier(nn.Module):
    """C: a 1x1 convolution to one logit per class, then bilinear upsampling by 8.

    Args:
        in_channels: channels of the latents.
        out_channels: number of classes, including the background.
        upsampling: factor from the latents' resolution to the image's.
        init_std: standard deviation of the convolution weights at the start.
    """

    def __init__(
        self, in_channels: int = 512, out_channels: int = 5, upsampling: int = 8, init_std: float = 0.01
    ) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(in_channels, out_channels, 1)
        self.upsampling = upsampling
        initialize_convolutions(self, init_std)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Maps latents (B, in_channels, H, W) to logits (B, out_channels, 8H, 8W)."""
        height, width = latent.shape[-2], latent.shape[-1]
        return functional.interpolate(
            self.classifier(latent),
            size=[self.upsampling * height, self.upsampling * width],
            mode="bilinear",
            align_corners=False,
        )
