"""Networks that make poorer masks than a model: those of other epochs, or the model with perturbed weights."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sifa.networks.segmenter import Segmenter
from sifa.networks.weights import load_weights
from sifa.utils.files import hash_of_file

EARLIER = 2  # networks
PERTURBATION = 0.1  # of weights, where a run kept no epochs, as a share of their spread


def weaker_networks(
    folder: Path, network: Segmenter, model_sha256: str, device: str | torch.device, seed: int
) -> list[nn.Module]:
    """Returns networks of other epochs than the model's; where a run kept none, the model with perturbed weights."""
    epochs = sorted((folder / "epochs").glob("*/model.pt"))
    kept = [path for path in epochs if hash_of_file(path) != model_sha256]
    if kept:
        places = np.unique(np.linspace(0, len(kept) - 1, EARLIER).round().astype(int))
        return [load_weights(deepcopy(network), kept[place], device) for place in places]
    generator = torch.Generator().manual_seed(seed)
    return [_perturbed(network, PERTURBATION * step, generator) for step in range(1, EARLIER + 1)]


def _perturbed(network: Segmenter, strength: float, generator: torch.Generator) -> nn.Module:
    """Returns a copy with noise on all weights, of a strength that is a share of the spread of each tensor."""
    perturbed = deepcopy(network)
    for parameter in perturbed.parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        spread = parameter.detach().std() if parameter.numel() > 1 else parameter.detach().abs().mean()
        parameter.data += strength * spread * noise
    return perturbed.eval()
