"""Loading, hashing, freezing and clipping of network weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sifa.utils.errors import InputError


def load_weights(network: nn.Module, path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """Loads a state dict into `network`, strictly, and returns it on `device` in evaluation mode.

    Args:
        network: the network that the weights belong to.
        path: a `model.pt` written by training.
        device: device of the returned network.

    Raises:
        InputError: when the file is missing or unreadable, or holds the weights of another network.
    """
    state = _read_state(Path(path))
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path}: its weights do not fit the network that fingerprint.json beside it describes: keep the pair that "
            "one training wrote together."
        ) from error
    return network.to(device).eval()


def guiding_classes(path: str | Path, in_channels: int) -> int:
    """Returns how many classes a G_t takes beside its images, by the weights of its first convolution; 0: none.

    Args:
        path: `generators/target_generator.pt` of a training.
        in_channels: of the images.

    Raises:
        InputError: when the file is missing or unreadable, or holds no weights of a G_t.
    """
    state = _read_state(Path(path))
    first = next(iter(state.values()), None) if isinstance(state, dict) else None
    if not isinstance(first, torch.Tensor) or first.ndim != 4 or first.shape[1] < in_channels:
        raise InputError(f"{path}: it holds no weights of G_t: copy it again from the training's output.")
    return first.shape[1] - in_channels


def _read_state(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file: point --model_dir at a folder that training wrote.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler may raise anything on a foreign file
        raise InputError(f"{path}: it is truncated or not a PyTorch state dict: copy it again.") from error


def freeze(network: nn.Module) -> nn.Module:
    """Returns `network` in evaluation mode and without gradients, for a method that only reads it."""
    return network.requires_grad_(False).eval()


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Limits weights and biases of all convolutions of `network`, in place, to +-`bound`; norms have no limit."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            for parameter in layer.parameters():
                parameter.clamp_(-bound, bound)


def hash_of(network: nn.Module) -> str:
    """Returns a SHA-256, in hexadecimal, of all parameters and buffers: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
