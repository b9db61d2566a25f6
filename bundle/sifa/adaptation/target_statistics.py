"""Batch norm's running statistics, measured on unlabeled target slices as inference will see them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.optim.swa_utils import update_bn

from sifa.data.slice_cache import VolumeSlices
from sifa.networks import Segmenter
from sifa.transforms.intensity import AIR_THRESHOLD
from sifa.utils.errors import InputError


class TargetStatistics:
    """Measures the running statistics of E's batch norm on target slices, evenly taken, without augmentation.

    They are the mean of the statistics of batches, as large as they are here and not as small as those of training
    (AdaBN, Li et al., 2016). Slices of nothing but air are left out: inference does not show them to the network.

    Args:
        slices: the target's training slices, `image` (C, H, W) in [-1, 1].
        count: how many of them to take, at most.
        batch_size: slices in a batch.
        device: where the networks are.

    Raises:
        InputError: when there are no target slices, or none is to be taken.
    """

    def __init__(
        self, slices: VolumeSlices, count: int = 256, batch_size: int = 16, device: torch.device | str = "cpu"
    ) -> None:
        if len(slices) == 0 or count < 1:
            raise InputError(
                f"batch norm's statistics cannot be measured on {min(count, len(slices))} target slices: list target "
                "images and give statistics_slices 1 or more, or 0 to do without."
            )
        self.slices = slices
        self.count = count
        self.batch_size = batch_size
        self.device = torch.device(device)

    def measure(self, segmenter: Segmenter) -> None:
        """Puts the statistics into `segmenter`; nothing else of it changes.

        Raises:
            InputError: when all slices that were taken show nothing.
        """
        batches = list(self.batches())
        if not batches:
            raise InputError(
                "batch norm's statistics cannot be measured on target slices that all show nothing but air: give a "
                "higher statistics_slices, or 0 to do without."
            )
        update_bn(batches, segmenter, self.device)

    def batches(self) -> Iterator[torch.Tensor]:
        """Yields the slices in batches (B, C, H, W), the last one the smallest."""
        places = torch.linspace(0, len(self.slices) - 1, min(self.count, len(self.slices))).round().long().tolist()
        images = (self.slices[place]["image"] for place in places)
        seen = [image for image in images if bool((image > AIR_THRESHOLD).any())]
        for start in range(0, len(seen), self.batch_size):
            yield torch.stack(seen[start : start + self.batch_size])
