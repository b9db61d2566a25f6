"""Whose images the running statistics of E's batch norm describe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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
