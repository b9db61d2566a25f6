"""The segmenter's weights on disk: `model.pt`, a plain state dict, beside `fingerprint.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sifa.fingerprint.fingerprint import write_fingerprint
from sifa.utils.errors import InputError
from sifa.utils.files import temporary_beside


def save_model(segmenter: nn.Module, fingerprint: Mapping[str, Any], folder: str | Path) -> None:
    """Writes `model.pt` (state dict on the CPU) and `fingerprint.json` to `folder`, each whole or not at all.

    Raises:
        OSError: when one of them cannot be written.
    """
    folder = Path(folder)
    save_state(segmenter, folder / "model.pt")
    write_fingerprint(fingerprint, folder / "fingerprint.json")


def save_state(network: nn.Module, path: Path) -> None:
    """Writes a state dict of plain CPU tensors to `path`, whole or not at all.

    Raises:
        OSError: when it cannot be written.
    """
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    with temporary_beside(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # which torch makes of a full disk
            raise OSError(str(error)) from error


def with_weights(network: nn.Module, path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """Loads a `model.pt` into `network`, strictly, and returns it on `device` in evaluation mode.

    Raises:
        InputError: when the file is missing or unreadable, or holds the weights of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there are no weights: point --model_dir at a folder that training wrote.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a foreign file makes the unpickler stumble over
        raise InputError(f"{path}: it is truncated or not a PyTorch state dict: copy it anew.") from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path}: its weights do not fit the network that fingerprint.json beside it describes: keep the pair that "
            "one training wrote together."
        ) from error
    return network.to(device).eval()
