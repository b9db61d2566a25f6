"""The segmenter C(E(.)), which is exported and deployed; `network_def` in the inference config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sifa.networks.encoder import Encoder
from sifa.networks.pixel_classifier import PixelClassifier


class Segmenter(nn.Module):
    """C(E(x)) for slices of any size: pads to multiples of 8 by repeating the border, and crops the result.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
        width: factor on all channel numbers of E; 1 is the paper's.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 5, width: float = 1.0) -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, width)
        self.pixel_classifier = PixelClassifier(self.encoder.out_channels, out_channels, Encoder.downsampling)
        self.multiple = Encoder.downsampling

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads weights strictly, whatever `strict` is: MONAI Label passes False, which would accept random weights.

        Raises:
            RuntimeError: when a tensor is missing, unexpected or of another shape.
        """
        return super().load_state_dict(state_dict, strict=True, assign=assign)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps images (B, in_channels, H, W) in [-1, 1] to logits (B, out_channels, H, W)."""
        logits = self.pixel_classifier(self.encoder(self.pad(image)))
        return logits[:, :, : image.shape[-2], : image.shape[-1]]

    def pad(self, image: torch.Tensor) -> torch.Tensor:
        """Returns images (B, in_channels, H, W) padded on the right and at the bottom to sizes that E takes."""
        below = (self.multiple - image.shape[-2] % self.multiple) % self.multiple
        right = (self.multiple - image.shape[-1] % self.multiple) % self.multiple
        return functional.pad(image, [0, right, 0, below], mode="replicate")
