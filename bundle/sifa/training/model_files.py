"""The segmenter's weights on disk: `model.pt`, a plain state dict, beside `fingerprint.json`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint, write_fingerprint
from sifa.utils.files import temporary_beside


def save_model(segmenter: nn.Module, fingerprint: Fingerprint, folder: str | Path) -> None:
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
