"""The part of a target scan that covers the field of view of the source scans."""

from __future__ import annotations

import numpy as np
import torch
from monai.networks import eval_mode
from torch import nn

from sifa.data.slice_cache import POSITION, Volume, VolumeSlices
from sifa.training.mixed_precision import in_full
from sifa.transforms.intensity import AIR_THRESHOLD
from sifa.transforms.padding import without_marks

TOLERANCE = 0.1  # a scan that is at most this share longer than the source scans is used in full


def is_taken_whole(length: float, source_length: float) -> bool:
    """Returns whether a target scan is about as long as the source scans; both lengths in mm, across the slices."""
    return length <= (1 + TOLERANCE) * source_length


class FieldOfView:
    """Finds the range of slices of each target volume that covers the field of view of the source volumes.

    A CT scan of chest, abdomen and pelvis is twice as long as an MR scan of the upper abdomen. Slices without a
    counterpart in the source mislead the adversarial terms, which make target slices look and be labeled like source
    slices. The segmenter therefore predicts some slices of each volume, and the range with the most foreground is used,
    as long as the source volumes. A segmenter at the beginning of its training is good enough for this. Slices that
    show only air do not count.

    Args:
        target: the training slices of the target, with their positions.
        length: length of the source volumes across the slices in mm.
        distance: distance of the predicted slices in mm.
        batch_size: slices in a batch.
        device: the device of the segmenter.
    """

    def __init__(
        self,
        target: VolumeSlices,
        length: float,
        distance: float = 10.0,
        batch_size: int = 16,
        device: torch.device | str = "cpu",
    ) -> None:
        self.target = target
        self.length = length
        self.distance = distance
        self.batch_size = batch_size
        self.device = torch.device(device)

    def find(self, segmenter: nn.Module) -> np.ndarray:
        """Returns the indices, in order, of the target slices within the ranges.

        The segmenter runs in evaluation mode and then returns to the mode that it was in.
        """
        starts = self.target.starts[:-1]
        with eval_mode(segmenter):
            found = [
                np.arange(start, start + len(volume["image"]))[self._range(volume, segmenter)]
                for start, volume in zip(starts, self.target.volumes, strict=True)
            ]
        return np.concatenate(found)

    def _range(self, volume: Volume, segmenter: nn.Module) -> slice:
        images, positions = volume["image"], volume[POSITION]
        step = float(positions[1] - positions[0]) if len(positions) > 1 else self.length
        if is_taken_whole(len(images) * step, self.length):
            return slice(0, len(images))
        slices = max(1, round(self.length / step))
        seen = np.arange(0, len(images), max(1, int(self.distance / step)))
        foreground = []
        for start in range(0, len(seen), self.batch_size):
            batch = torch.stack([without_marks(images[int(index)]) for index in seen[start : start + self.batch_size]])
            probabilities = in_full(segmenter(batch.to(self.device))).softmax(dim=1)
            found = 1 - probabilities[:, 0].mean(dim=(1, 2)).numpy(force=True)
            foreground.append(found * (batch > AIR_THRESHOLD).flatten(1).any(dim=1).numpy())
        return best_range(np.interp(np.arange(len(images)), seen, np.concatenate(foreground)), slices)


def best_range(foreground: np.ndarray, slices: int) -> slice:
    """Returns the range of neighboring slices with the greatest sum; all slices where there are no more.

    Args:
        foreground: share of foreground in each slice, (N,).
        slices: length of the range, 1 or more.
    """
    if slices >= len(foreground):
        return slice(0, len(foreground))
    sums = np.convolve(foreground, np.ones(slices), mode="valid")
    first = int(np.argmax(sums))
    return slice(first, first + slices)
