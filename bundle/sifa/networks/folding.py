"""The same function with fewer steps: batch norm folded into the convolutions before it, weights laid out for speed."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def for_inference(network: nn.Module) -> nn.Module:
    """Returns a copy of `network` with each batch norm that follows a convolution folded into it, channels last.

    Args:
        network: in evaluation mode; it stays as it is.

    Raises:
        ValueError: when it is in training mode, where batch norm depends on the batch.
    """
    if network.training:
        raise ValueError("batch norm can be folded in evaluation mode only: call eval() first.")
    folded = deepcopy(network)
    for block in folded.modules():
        if isinstance(block, nn.Sequential):
            for index in range(len(block) - 1):
                convolution, norm = block[index], block[index + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    block[index], block[index + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
