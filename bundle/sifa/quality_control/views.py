"""Other views of a scan by the same network: its own batch-norm statistics, and a random appearance."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from sifa.transforms.random_appearance import RandomAppearanced


def with_statistics_of(network: nn.Module, batches: Iterable[torch.Tensor]) -> nn.Module:
    """Returns a copy of a network whose batch-norm statistics are those of some images, in evaluation mode.

    Args:
        network: with its batch norm, in evaluation mode; it is not changed.
        batches: images (B, C, H, W), at least one batch.
    """
    copy = deepcopy(network)
    update_bn(batches, copy)
    return copy.eval()


class RandomAppearance(nn.Module):
    """A network that sees its images with a random appearance (GIN), the same for all of a scan.

    Args:
        network: C(E(.)).
        seed: of the appearance.
    """

    def __init__(self, network: nn.Module, seed: int) -> None:
        super().__init__()
        self.network = network
        self.seed = seed

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps images (B, C, H, W) in [-1, 1] to logits (B, classes, H, W)."""
        return self.network(random_appearance(image, self.seed))


def random_appearance(images: torch.Tensor, seed: int) -> torch.Tensor:
    """Returns images (N, C, H, W) in [-1, 1], all with the random appearance of a seed."""
    change: Any = RandomAppearanced("image")
    views = [change.set_random_state(seed=seed)({"image": image})["image"] for image in images]
    return torch.stack(views)
