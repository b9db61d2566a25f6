"""The running batch-norm statistics of the exported network, measured on unlabeled target slices."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.optim.swa_utils import update_bn

from sifa.data.slice_cache import VolumeSlices
from sifa.networks import Segmenter
from sifa.transforms.intensity import AIR_THRESHOLD
from sifa.transforms.padding import without_marks
from sifa.utils.errors import InputError


class TargetStatistics:
    """Measures the running batch-norm statistics of E on evenly spaced target slices, without augmentation.

    They are the mean of the statistics of batches, which may be larger than those of training (AdaBN, Li et al., 2016).
    Slices that show only air are left out, since inference does not pass them to the network.

    Args:
        slices: the training slices of the target, `image` (C, H, W) in [-1, 1].
        count: number of slices, at most.
        batch_size: slices in a batch.
        device: the device of the networks.

    Raises:
        InputError: when there are no target slices, or `count` is 0.
    """

    def __init__(
        self, slices: VolumeSlices, count: int = 256, batch_size: int = 16, device: torch.device | str = "cpu"
    ) -> None:
        if len(slices) == 0 or count < 1:
            raise InputError(
                f"batch-norm statistics cannot be measured on {min(count, len(slices))} target slices: list target "
                "images and set statistics_slices to 1 or more, or to 0 for no measurement."
            )
        self.slices = slices
        self.count = count
        self.batch_size = batch_size
        self.device = torch.device(device)

    def measure(self, segmenter: Segmenter) -> None:
        """Writes the statistics into `segmenter`; nothing else of it changes.

        Raises:
            InputError: when all of these slices show only air.
        """
        batches = list(self.batches())
        if not batches:
            raise InputError(
                "batch-norm statistics cannot be measured on target slices that all show only air: set a higher "
                "statistics_slices, or 0 for no measurement."
            )
        update_bn(batches, segmenter, self.device)

    def batches(self) -> Iterator[torch.Tensor]:
        """Yields the slices in batches (B, C, H, W), the last one the smallest."""
        places = torch.linspace(0, len(self.slices) - 1, min(self.count, len(self.slices))).round().long().tolist()
        images = (without_marks(self.slices[place]["image"]) for place in places)
        seen = [image for image in images if bool((image > AIR_THRESHOLD).any())]
        for start in range(0, len(seen), self.batch_size):
            yield torch.stack(seen[start : start + self.batch_size])
