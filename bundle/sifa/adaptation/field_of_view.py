"""The part of a target scan that shows what the source's scans show."""

from __future__ import annotations

import numpy as np
import torch
from monai.networks import eval_mode
from torch import nn

from sifa.data.slice_cache import POSITION, Volume, VolumeSlices
from sifa.training.mixed_precision import in_full
from sifa.transforms.intensity import AIR_THRESHOLD

TOLERANCE = 0.1  # share by which a scan that is taken whole may be longer than the source's


def is_taken_whole(length: float, source_length: float) -> bool:
    """Tells whether a target scan is hardly longer than the source's scans; both in mm, across the slices."""
    return length <= (1 + TOLERANCE) * source_length


class FieldOfView:
    """Finds the stretch of each target volume that shows what the source's volumes show.

    A CT scan of chest, abdomen and pelvis is twice as long as an MR scan of the upper abdomen. Slices that have no
    counterpart in the source mislead the adversarial terms, which make target slices look and be labeled like source
    slices. The segmenter therefore looks at some slices of each volume; the stretch as long as the source's volumes
    that shows most of all structures together is taken. A segmenter that has just begun to learn is good enough.
    Slices of nothing but air count nothing.

    Args:
        target: the target's training slices, with their positions.
        length: of the source's volumes, across the slices, in mm.
        distance: of the slices that are looked at, in mm.
        batch_size: slices in a batch.
        device: where the segmenter is.
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
        """Returns the running numbers, in order, of the target slices within the stretches.

        The segmenter is used in evaluation mode and left in the mode that it was in.
        """
        starts = self.target.starts[:-1]
        with eval_mode(segmenter):
            found = [
                np.arange(start, start + len(volume["image"]))[self._stretch(volume, segmenter)]
                for start, volume in zip(starts, self.target.volumes, strict=True)
            ]
        return np.concatenate(found)

    def _stretch(self, volume: Volume, segmenter: nn.Module) -> slice:
        images, positions = volume["image"], volume[POSITION]
        step = float(positions[1] - positions[0]) if len(positions) > 1 else self.length
        if is_taken_whole(len(images) * step, self.length):
            return slice(0, len(images))
        slices = max(1, round(self.length / step))
        seen = np.arange(0, len(images), max(1, int(self.distance / step)))
        foreground = []
        for start in range(0, len(seen), self.batch_size):
            batch = torch.stack([images[int(index)] for index in seen[start : start + self.batch_size]])
            probabilities = in_full(segmenter(batch.to(self.device))).softmax(dim=1)
            found = 1 - probabilities[:, 0].mean(dim=(1, 2)).numpy(force=True)
            foreground.append(found * (batch > AIR_THRESHOLD).flatten(1).any(dim=1).numpy())
        return best_stretch(np.interp(np.arange(len(images)), seen, np.concatenate(foreground)), slices)


def best_stretch(foreground: np.ndarray, slices: int) -> slice:
    """Returns the stretch of that many neighboring slices, or of all if there are fewer, with the greatest sum.

    Args:
        foreground: how much of the structures each slice shows, (N,).
        slices: length of the stretch, 1 or more.
    """
    if slices >= len(foreground):
        return slice(0, len(foreground))
    sums = np.convolve(foreground, np.ones(slices), mode="valid")
    first = int(np.argmax(sums))
    return slice(first, first + slices)
