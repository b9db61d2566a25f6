"""Chooses the precision of the network by a measurement: a processor may support bfloat16 and still be slower in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)

GAIN = 1.1  # bfloat16 is chosen when it is at least this many times faster
REPEATS = 3


def faster_precision(network: Callable[[torch.Tensor], torch.Tensor], windows: torch.Tensor) -> str:
    """Times the network in float32 and under bfloat16 autocast, and returns the name of the faster one.

    Args:
        network: in evaluation mode.
        windows: input of the size that the network will get, on its device.

    Returns:
        `bfloat16` when it is clearly faster, else `float32`.
    """
    seconds = {name: _seconds(network, windows, name == "bfloat16") for name in ("float32", "bfloat16")}
    chosen = "bfloat16" if seconds["float32"] > GAIN * seconds["bfloat16"] else "float32"
    gain = seconds["float32"] / seconds["bfloat16"]
    logger.info("precision: %s; bfloat16 is %.2f times as fast as float32 here", chosen, gain)
    return chosen


@torch.inference_mode()
def _seconds(network: Callable[[torch.Tensor], torch.Tensor], windows: torch.Tensor, bfloat16: bool) -> float:
    """Returns the shortest time of several runs, after one to warm up."""
    best = float("inf")
    with torch.autocast(windows.device.type, torch.bfloat16, enabled=bfloat16):
        network(windows)
        for _ in range(REPEATS):
            start = time.perf_counter()
            network(windows).sum().item()  # which waits for the device
            best = min(best, time.perf_counter() - start)
    return best
