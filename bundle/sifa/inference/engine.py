"""What computes the network in inference: PyTorch, or ONNX Runtime."""

from __future__ import annotations

import torch
from torch import nn

from sifa.networks.batch_norm import for_inference
from sifa.networks.onnx_network import OnnxNetwork, require_onnx
from sifa.utils.errors import UsageError

TORCH, ONNX = ENGINES = ("torch", "onnx")


def require_engine(engine: str, device: str | torch.device, precision: str) -> None:
    """Refuses an engine that does not exist, is not installed, or cannot do what the other options ask for.

    Args:
        engine: `torch` or `onnx`.
        device: where the network is to run.
        precision: see `SliceSegmenter`.

    Raises:
        UsageError: when it is refused.
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: choose {' or '.join(ENGINES)}.")
    if engine == TORCH:
        return
    if torch.device(device).type != "cpu":
        raise UsageError(f"--engine {engine} runs on the CPU only, not on {device}: add --device cpu.")
    if precision == "bfloat16":
        raise UsageError(f"--engine {engine} computes in float32 only: leave out --precision {precision}.")
    require_onnx()


def with_engine(network: nn.Module, engine: str, in_channels: int) -> nn.Module:
    """Returns a network as an engine computes it.

    Args:
        network: C(E(.)), or the mean of several, in evaluation mode.
        engine: `torch` or `onnx`.
        in_channels: of its images.
    """
    return OnnxNetwork(network, in_channels) if engine == ONNX else for_inference(network)
