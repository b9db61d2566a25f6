"""Unpaired slices of two domains: held in memory, drawn independently, reproducible from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.transforms import Randomizable
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler
from tqdm import tqdm

from sifa.errors import InputError, first_line, innermost


class Draw(NamedTuple):
    """What one sample is made of: a source slice, a target slice (any; they do not belong together), a seed."""

    source_index: int
    target_index: int
    seed: int


class UnpairedSlices(Dataset):
    """All slices of the training volumes of both domains, cut once and held in memory.

    Args:
        data: labeled source volumes, `{"image": path, "label": path}`.
        preprocessing: maps such an item to `image` (C, H, W, D) in [-1, 1] and `label` (1, H, W, D).
        target_data: unlabeled target volumes, `{"image": path}`; empty without adaptation.
        target_preprocessing: maps such an item to `image` (C, H, W, D) in [-1, 1].
        augmentation: random transforms on the 2-D slices `source_image`, `source_label` and `target_image`.

    Raises:
        InputError: when `data` is empty, or a volume cannot be prepared.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        preprocessing: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        target_data: Sequence[Mapping[str, str]] = (),
        target_preprocessing: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
        augmentation: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    ) -> None:
        if not data:
            raise InputError("there are no labeled source images to train on: list or label at least one.")
        self.augmentation = augmentation
        source = cut_slices(data, preprocessing, ("image", "label"), "source slices")
        self.source_images, self.source_labels = source["image"], source["label"].to(torch.uint8)
        self.target_images: torch.Tensor | None = None
        if target_data and target_preprocessing is not None:
            # Only the image is handed on, whatever an item holds: target labels cannot reach training.
            unlabeled = [{"image": item["image"]} for item in target_data]
            self.target_images = cut_slices(unlabeled, target_preprocessing, ("image",), "target slices")["image"]

    @property
    def source_size(self) -> int:
        """Number of source slices."""
        return len(self.source_images)

    @property
    def target_size(self) -> int:
        """Number of target slices; 0 without adaptation."""
        return 0 if self.target_images is None else len(self.target_images)

    def __len__(self) -> int:
        """Number of slices of the larger domain, which is what an epoch goes through."""
        return max(self.source_size, self.target_size)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Returns `source_image`, `target_image` (C, H, W) and `source_label` (1, H, W), augmented by its seed."""
        sample: Mapping[str, Any] = {
            "source_image": self.source_images[draw.source_index],
            "source_label": self.source_labels[draw.source_index],
        }
        if self.target_images is not None:
            sample = {**sample, "target_image": self.target_images[draw.target_index]}
        if self.augmentation is not None:
            if isinstance(self.augmentation, Randomizable):
                self.augmentation.set_random_state(seed=draw.seed)
            sample = self.augmentation(sample)
        return {key: torch.as_tensor(value).as_subclass(torch.Tensor) for key, value in sample.items()}


def cut_slices(
    data: Sequence[Mapping[str, str]],
    preprocessing: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    keys: Sequence[str],
    description: str,
) -> dict[str, torch.Tensor]:
    """Prepares volumes and cuts them along their last axis.

    Args:
        data: items of paths.
        preprocessing: maps an item to volumes (C, H, W, D).
        keys: the entries to cut.
        description: what the progress bar says.

    Returns:
        For each key the slices of all volumes, (N, C, H, W), contiguous in memory.

    Raises:
        InputError: naming the volume that cannot be prepared.
    """
    slices: dict[str, list[torch.Tensor]] = {key: [] for key in keys}
    for item in tqdm(data, desc=description, leave=False, disable=None):
        try:
            volumes = preprocessing(dict(item))
        except Exception as error:
            raise InputError(
                f"{item['image']}: it cannot be prepared for training ({first_line(innermost(error))})."
            ) from error
        for key in keys:
            slices[key].append(torch.as_tensor(volumes[key]).as_subclass(torch.Tensor).movedim(-1, 0).contiguous())
    return {key: torch.cat(parts) for key, parts in slices.items()}


class UnpairedSampler(DistributedSampler):
    """Draws source and target slices independently; each is gone through in a new random order before it repeats.

    A draw depends on `seed`, the epoch (MONAI's trainer calls `set_epoch`) and its place in the epoch only, so that a
    run can be repeated, and resumed at any epoch.

    Args:
        dataset: the slices.
        batch_size: slices of each domain in a batch, on one device.
        iterations: batches in an epoch; None: as many as the larger domain fills.
        seed: seed of all draws.
        num_replicas: number of processes that share the work.
        rank: number of this process.
    """

    def __init__(
        self,
        dataset: UnpairedSlices,
        batch_size: int,
        iterations: int | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed, drop_last=True)
        self.source_size, self.target_size = dataset.source_size, dataset.target_size
        if iterations is None:
            iterations = max(1, len(dataset) // (batch_size * num_replicas))
        self.num_samples = iterations * batch_size
        self.total_size = self.num_samples * num_replicas

    def __len__(self) -> int:
        """Number of draws of this process in an epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[Draw]:
        """Yields the draws of this process for the current epoch."""
        streams = np.random.SeedSequence([self.seed, self.epoch]).spawn(3)
        source = _shuffled_stream(np.random.default_rng(streams[0]), self.source_size, self.total_size)
        target = _shuffled_stream(np.random.default_rng(streams[1]), self.target_size, self.total_size)
        seeds = np.random.default_rng(streams[2]).integers(2**32, size=self.total_size)
        for place in range(self.rank, self.total_size, self.num_replicas):
            yield Draw(int(source[place]), int(target[place]), int(seeds[place]))


def _shuffled_stream(generator: np.random.Generator, size: int, length: int) -> np.ndarray:
    """Returns `length` indices below `size`: permutation after permutation."""
    if size == 0:
        return np.zeros(length, dtype=np.int64)
    repeats = -(-length // size)
    return np.concatenate([generator.permutation(size) for _ in range(repeats)])[:length]
