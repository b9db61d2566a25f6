"""Batch norm of E: which images enter its running statistics, and folding it into convolutions."""

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
    """Keeps the running statistics of batch norm unchanged within the context; it still normalizes by the batch.

    E sees translated source images and real target images in turn. In the authors' code both enter one set of
    statistics, which then fits neither; here, only passes outside this context update the statistics.
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
    """Returns a copy of `network`, channels last, with each batch norm folded into the convolution before it.

    Args:
        network: in evaluation mode; it is not changed.

    Raises:
        ValueError: when it is in training mode, in which batch norm depends on the batch.
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
