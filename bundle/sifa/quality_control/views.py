"""Other views of a scan by the same network: its own batch-norm statistics, and a random appearance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from sifa.transforms.random_appearance import RandomAppearanced

ImageMap = Callable[[torch.Tensor], torch.Tensor]


def with_statistics_of(network: nn.Module, batches: Iterable[torch.Tensor]) -> nn.Module:
    """Returns a copy of a network whose batch-norm statistics are those of some images, in evaluation mode.

    Args:
        network: with its batch norm, in evaluation mode; it is not changed.
        batches: images (B, C, H, W), at least one batch.
    """
    copy = deepcopy(network)
    update_bn(batches, copy)
    return copy.eval()


class ChangedImages(nn.Module):
    """A network that sees other images than those that it is given.

    The image that masks are refined by is not changed. For an imitated target scan it is the source image: its edges
    are those of an anatomy, as those of a real target image are, while edges of translated images are blurred.

    Args:
        network: C(E(.)).
        change: maps images (B, C, H, W) in [-1, 1] to those that the network sees.
    """

    def __init__(self, network: ImageMap, change: ImageMap) -> None:
        super().__init__()
        self.network = network
        self.change = change

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps images (B, C, H, W) in [-1, 1] to logits (B, classes, H, W)."""
        return self.network(self.change(image))


def random_appearance(images: torch.Tensor, seed: int) -> torch.Tensor:
    """Returns images (N, C, H, W) in [-1, 1], all with the random appearance of a seed."""
    change: Any = RandomAppearanced("image")
    views = [change.set_random_state(seed=seed)({"image": image})["image"] for image in images]
    return torch.stack(views)
