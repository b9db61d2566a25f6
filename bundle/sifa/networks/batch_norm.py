"""Whose images the running statistics of E's batch norm describe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


@contextmanager
def running_statistics_held(module: nn.Module) -> Iterator[None]:
    """Within the context, batch norm in training mode normalizes by the batch and leaves its running statistics alone.

    E sees translated source images and real target images in turn. The authors let both into one set of statistics,
    which then fits neither; here only the passes outside this context count.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    tracked = [layer.track_running_stats for layer in layers]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, track in zip(layers, tracked, strict=True):
            layer.track_running_stats = track


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
