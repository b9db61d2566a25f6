"""Unpaired slices of two domains, and a sampler that draws them independently and reproducibly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.transforms import Randomizable
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from sifa.data.slice_cache import Item, Preprocessing, SliceCache, SliceFile, VolumeSlices, prepare_volumes
from sifa.utils.distributed import is_main_process
from sifa.utils.errors import InputError

logger = logging.getLogger(__name__)

GIB = 2**30  # bytes


class Draw(NamedTuple):
    """One sample: a source slice, unrelated target slices, and the seed of its augmentation."""

    source_index: int
    target_index: int
    seed: int
    labeled_index: int = 0  # of the labeled target slices


class UnpairedSlices(Dataset):
    """All slices of the training volumes of both domains; each volume is read, prepared and cut once.

    Args:
        data: labeled source volumes, `{"image": path, "label": path}`.
        preprocessing: maps such an item to `image` (C, H, W, D) in [-1, 1] and `label` (1, H, W, D).
        target_data: unlabeled target volumes, `{"image": path}`; empty without adaptation.
        target_preprocessing: maps such an item to `image` (C, H, W, D) in [-1, 1].
        augmentation: random transforms on the 2-D slices `source_image`, `source_label` and `target_image`, and on
            `labeled_target_image` and `labeled_target_label` where there are any.
        cache_rate: share of the volumes of each domain, from 0 to 1, that each process holds in memory; the slices of
            the others are read from `cache_dir`.
        cache_dir: folder that keeps prepared volumes for later runs; None: all are held in memory only.
        cache_key: everything besides the files that prepared slices depend on; see `sifa.data.slice_cache.SliceCache`.
        labeled_target_data: the target volumes that have labels, `{"image": path, "label": path}`.
        labeled_target_preprocessing: maps such an item to `image` and `label`, as `preprocessing` does.
        needs_source: whether there have to be labeled source volumes.

    Raises:
        InputError: when `data` is empty, a volume cannot be prepared, or a setting of the cache cannot be used.
    """

    def __init__(
        self,
        data: Sequence[Item],
        preprocessing: Preprocessing,
        target_data: Sequence[Item] = (),
        target_preprocessing: Preprocessing | None = None,
        augmentation: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
        cache_rate: float = 1.0,
        cache_dir: str | Path | None = None,
        cache_key: Any = None,
        labeled_target_data: Sequence[Item] = (),
        labeled_target_preprocessing: Preprocessing | None = None,
        needs_source: bool = True,
    ) -> None:
        if not data and needs_source:
            raise InputError("there are no labeled source images to train on: add at least one.")
        if not isinstance(cache_rate, int | float) or not 0 <= cache_rate <= 1:
            raise InputError(f"cache_rate is {cache_rate!r}: give the share of volumes to hold in memory, from 0 to 1.")
        if cache_rate < 1 and cache_dir is None:
            raise InputError(
                f"cache_rate is {cache_rate} and there is no cache_dir: name a folder to read the other volumes from, "
                "or set cache_rate to 1."
            )
        self.augmentation = augmentation
        cache = None if cache_dir is None else SliceCache(cache_dir, cache_key)
        self.source = VolumeSlices()
        if data:
            self.source = prepare_volumes(data, preprocessing, ("image", "label"), "source slices", cache, cache_rate)
        self.target = VolumeSlices()
        if target_data and target_preprocessing is not None:
            # Only the image is passed on, so target labels cannot reach training.
            unlabeled = [{"image": item["image"]} for item in target_data]
            self.target = prepare_volumes(
                unlabeled, target_preprocessing, ("image",), "target slices", cache, cache_rate
            )
        self.labeled_target = VolumeSlices()
        if labeled_target_data and labeled_target_preprocessing is not None:
            names = ("image", "label")
            self.labeled_target = prepare_volumes(
                labeled_target_data, labeled_target_preprocessing, names, "labeled target slices", cache, cache_rate
            )
        if is_main_process():
            self._log_size()

    @property
    def source_size(self) -> int:
        """Number of source slices."""
        return len(self.source)

    @property
    def target_size(self) -> int:
        """Number of target slices; 0 without adaptation."""
        return len(self.target)

    @property
    def labeled_size(self) -> int:
        """Number of labeled target slices; 0 where there are none."""
        return len(self.labeled_target)

    def __len__(self) -> int:
        """Number of slices of the larger domain."""
        return max(self.source_size, self.target_size)

    def source_frequencies(self, num_classes: int, slice_size: Sequence[int] | None = None) -> torch.Tensor:
        """Returns the share of each class among the pixels of the source labels: (num_classes,), sums to 1.

        Args:
            num_classes: number of classes, background included.
            slice_size: rows and columns in the middle of prepared slices that count; None: all.
        """
        counts = torch.zeros(num_classes, dtype=torch.int64)
        for volume in self.source.volumes:
            label = volume["label"]
            slices = label.load() if isinstance(label, SliceFile) else label
            rows, columns = slice_size or slices.shape[2:]
            top, left = (slices.shape[2] - rows) // 2, (slices.shape[3] - columns) // 2
            shown = slices[:, :, top : top + rows, left : left + columns]
            counts += torch.bincount(shown.flatten(), minlength=num_classes)
        return counts.to(torch.float32) / counts.sum()

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Returns `source_image`, `target_image` (C, H, W) and `source_label` (1, H, W), augmented by the seed.

        A domain without volumes has no entry. Where there are labeled target volumes, `labeled_target_image` and
        `labeled_target_label` are there as well.
        """
        sample: Mapping[str, Any] = {}
        if self.source_size:
            source = self.source[draw.source_index]
            sample = {"source_image": source["image"], "source_label": source["label"]}
        if self.target_size:
            sample = {**sample, "target_image": self.target[draw.target_index]["image"]}
        if self.labeled_size:
            labeled = self.labeled_target[draw.labeled_index]
            images = {"labeled_target_image": labeled["image"], "labeled_target_label": labeled["label"]}
            sample = {**sample, **images}
        if self.augmentation is not None:
            if isinstance(self.augmentation, Randomizable):
                self.augmentation.set_random_state(seed=draw.seed)
            sample = self.augmentation(sample)
        return {key: torch.as_tensor(value).as_subclass(torch.Tensor) for key, value in sample.items()}

    def _log_size(self) -> None:
        domains = {"source": self.source, "target": self.target}
        if self.labeled_size:
            domains["labeled target"] = self.labeled_target
        logger.info(
            "training on %s: %.2f GiB, %.2f GiB of it in memory; %d volumes were in the cache",
            " and ".join(f"{len(one)} slices of {len(one.volumes)} {name} volumes" for name, one in domains.items()),
            sum(one.nbytes for one in domains.values()) / GIB,
            sum(one.nbytes_in_memory for one in domains.values()) / GIB,
            sum(one.found for one in domains.values()),
        )


class UnpairedSampler(DistributedSampler):
    """Draws source and target slices independently, each domain in one random order after another.

    A draw depends only on `seed`, the epoch (MONAI's trainer calls `set_epoch`), its position in the epoch and
    `target_slices`, so a run can be repeated, and resumed at any iteration.

    Attributes:
        target_slices: numbers of the target slices to draw from, starting with the next pass; initially all.

    Args:
        dataset: the slices.
        batch_size: slices of each domain in a batch of one process.
        iterations: batches in an epoch; None: as many full batches as the larger domain has.
        seed: seed of all draws.
        num_replicas: number of processes that train together.
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
        self.source_size = dataset.source_size
        self.target_slices = np.arange(dataset.target_size)
        self.labeled_size = dataset.labeled_size
        if iterations is None:
            iterations = max(1, len(dataset) // (batch_size * num_replicas))
        self.batch_size = batch_size
        self.num_samples = iterations * batch_size
        self.total_size = self.num_samples * num_replicas
        self.left_out = 0  # draws of this process to skip at the beginning of the next pass

    def __len__(self) -> int:
        """Number of draws of this process in an epoch."""
        return self.num_samples

    def skip(self, iterations: int) -> None:
        """Skips this process's first batches in the next pass only.

        Args:
            iterations: number of batches of the epoch that are already done.
        """
        self.left_out = iterations * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        """Yields the draws of this process for the current epoch."""
        first, self.left_out = self.left_out, 0
        streams = np.random.SeedSequence([self.seed, self.epoch]).spawn(4)
        source = _shuffled_stream(np.random.default_rng(streams[0]), self.source_size, self.total_size)
        places = _shuffled_stream(np.random.default_rng(streams[1]), len(self.target_slices), self.total_size)
        target = self.target_slices[places] if len(self.target_slices) else places
        seeds = np.random.default_rng(streams[2]).integers(2**32, size=self.total_size)
        labeled = _shuffled_stream(np.random.default_rng(streams[3]), self.labeled_size, self.total_size)
        for place in range(first * self.num_replicas + self.rank, self.total_size, self.num_replicas):
            yield Draw(int(source[place]), int(target[place]), int(seeds[place]), int(labeled[place]))


def _shuffled_stream(generator: np.random.Generator, size: int, length: int) -> np.ndarray:
    """Returns `length` indices below `size`: one random permutation after another."""
    if size == 0:
        return np.zeros(length, dtype=np.int64)
    repeats = -(-length // size)
    return np.concatenate([generator.permutation(size) for _ in range(repeats)])[:length]
