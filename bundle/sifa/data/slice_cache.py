"""Slices of prepared volumes, in memory or in a cache on disk that identifies volumes by their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.lib.format import header_data_from_array_1_0, open_memmap, write_array_header_1_0
from tqdm import tqdm

from sifa.io.formats import files_of
from sifa.utils.digest import plain_form
from sifa.utils.distributed import is_main_process, wait_for_all
from sifa.utils.errors import InputError, first_line, innermost
from sifa.utils.files import hash_of_file, temporary_beside

FORMAT = 4  # of the cache; increase it when the files or this package's transforms change
POSITION = "position"  # entry beside image and label: distance of each slice from the first, in mm
DTYPES = {"image": torch.float32, "label": torch.uint8}

Item = Mapping[str, str]
Preprocessing = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class SliceFile:
    """Slices (N, C, H, W) in a `.npy` file, read through a memory map one at a time.

    The map is opened again for each slice, so an instance holds only the path, also when it goes to a worker process.

    Args:
        path: a file as `np.save` writes it.

    Raises:
        Exception: of any kind, when the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        slices = open_memmap(path, mode="r")
        if path.stat().st_size != slices.offset + slices.nbytes:
            raise ValueError(f"{path}: its size is not what its header says")
        self.path, self.count, self.nbytes = path, len(slices), slices.nbytes

    def __len__(self) -> int:
        """Number of slices."""
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        """Returns a slice, (C, H, W); from a file of numbers (N,), one number."""
        return torch.from_numpy(np.array(open_memmap(self.path, mode="r")[index]))

    def load(self) -> torch.Tensor:
        """Returns all slices, read into memory."""
        return torch.from_numpy(np.load(self.path))


Volume = Mapping[str, torch.Tensor | SliceFile]  # by entry: `image`, `label` (N, C, H, W), `position` (N,)


class VolumeSlices:
    """The slices of several volumes, numbered consecutively: those of the first volume, those of the second, ...

    Args:
        volumes: volumes that all have the same entries.
        found: number of volumes that were already in the cache.
    """

    def __init__(self, volumes: Sequence[Volume] = (), found: int = 0) -> None:
        self.volumes, self.found = volumes, found
        self.starts = np.cumsum([0, *(len(volume["image"]) for volume in volumes)])  # the last one is the total

    def __len__(self) -> int:
        """Number of slices."""
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Returns the entries of slice `index` (from 0), (C, H, W); `position` is a number."""
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        return {name: slices[index - int(self.starts[number])] for name, slices in self.volumes[number].items()}

    @property
    def nbytes(self) -> int:
        """Size of all slices, in bytes."""
        return sum(slices.nbytes for volume in self.volumes for slices in volume.values())

    @property
    def nbytes_in_memory(self) -> int:
        """Size of the slices held in memory, in bytes."""
        entries = [slices for volume in self.volumes for slices in volume.values()]
        return sum(slices.nbytes for slices in entries if isinstance(slices, torch.Tensor))


class SliceCache:
    """A folder of prepared volumes, identified by the content of their files and by how they were prepared.

    This class never deletes anything; the user may delete all of it between two runs. In distributed training, the main
    process prepares each volume first; the others then find it, or prepare it themselves if their folder is on another
    disk.

    Args:
        cache_dir: the folder; created when needed.
        cache_key: everything besides the files that the slices depend on, such as the fingerprint: plain types, or
            objects such as transforms, which are identified by class and attributes.

    Raises:
        InputError: when `cache_key` is None or holds a function.
    """

    def __init__(self, cache_dir: str | Path, cache_key: Any) -> None:
        if cache_key is None:
            raise InputError("cache_key is not set: with cache_dir, give it the fingerprint and the preprocessing.")
        self.cache_dir = Path(cache_dir)
        self.cache_key = json.dumps(cache_key, sort_keys=True, default=_plain)

    def find_or_prepare(
        self, item: Item, prepare: Callable[[], Mapping[str, torch.Tensor]]
    ) -> tuple[dict[str, SliceFile], bool]:
        """Returns the slices of a volume by entry, and whether they were already in the cache.

        Args:
            item: for each entry, the path of the volume's file or of its folder of DICOM files.
            prepare: returns the slices of these entries; called only when they are missing or damaged.

        Raises:
            InputError: when a file of `item` cannot be read, or the cache cannot be written.
        """
        content = {name: _content(Path(path)) for name, path in item.items()}
        key = hashlib.sha256(json.dumps([FORMAT, self.cache_key, content], sort_keys=True).encode()).hexdigest()[:32]
        files = {name: self.cache_dir / key / f"{name}.npy" for name in [*item, POSITION]}
        if not is_main_process():
            wait_for_all()
        try:
            slices, found = {name: SliceFile(file) for name, file in files.items()}, True
        except Exception:  # missing or damaged: NumPy's header parser may raise anything
            _write(files, prepare())
            slices, found = {name: SliceFile(file) for name, file in files.items()}, False
        if is_main_process():
            wait_for_all()
        return slices, found


def prepare_volumes(
    data: Sequence[Item],
    preprocessing: Preprocessing,
    entries: Sequence[str],
    description: str,
    cache: SliceCache | None = None,
    cache_rate: float = 1.0,
) -> VolumeSlices:
    """Prepares volumes one after the other and cuts them along their last axis.

    Args:
        data: items of paths.
        preprocessing: maps an item to volumes (C, H, W, D).
        entries: the entries to cut: `image`, or `image` and `label`.
        description: text of the progress bar.
        cache: where prepared volumes are found and stored; None: in memory only.
        cache_rate: share of the volumes, from 0 to 1, that are held in memory even with a cache.

    Returns:
        The slices in the order of `data`.

    Raises:
        InputError: when a volume, which it names, cannot be prepared.
    """
    number_in_memory = round(cache_rate * len(data))
    volumes: list[Volume] = []
    number_found = 0
    for item in tqdm(data, desc=description, leave=False, disable=None if is_main_process() else True):
        prepare = partial(cut_volume, item, preprocessing, entries)
        if cache is None:
            volumes.append(prepare())
            continue
        files, found = cache.find_or_prepare({name: item[name] for name in entries}, prepare)
        number_found += found
        in_memory = len(volumes) < number_in_memory
        volumes.append({name: file.load() if in_memory or name == POSITION else file for name, file in files.items()})
    return VolumeSlices(volumes, number_found)


def cut_volume(item: Item, preprocessing: Preprocessing, entries: Sequence[str]) -> dict[str, torch.Tensor]:
    """Returns the slices of one volume by entry, (N, C, H, W), contiguous in memory, and their positions, (N,).

    Slices of a volume without an affine lie 1 mm apart.

    Raises:
        InputError: when the volume, which it names, cannot be prepared.
    """
    try:
        volumes = preprocessing(dict(item))
    except Exception as error:
        raise InputError(
            f"{item['image']}: it cannot be prepared for training ({first_line(innermost(error))})."
        ) from error
    tensors = {name: torch.as_tensor(volumes[name]).as_subclass(torch.Tensor) for name in entries}
    if "label" in tensors:
        tensors["label"] = tensors["label"].round()  # labels may be whole but for rounding
    slices = {name: tensor.movedim(-1, 0).to(DTYPES[name]).contiguous() for name, tensor in tensors.items()}
    image = volumes["image"]
    step = float(image.pixdim[2]) if isinstance(image, MetaTensor) else 1.0
    return {**slices, POSITION: torch.arange(len(slices["image"]), dtype=torch.float32) * step}


def _write(files: Mapping[str, Path], slices: Mapping[str, torch.Tensor]) -> None:
    """Writes the slices of a volume, a file for each entry, each whole or not at all."""
    for name, file in files.items():
        try:
            with temporary_beside(file) as temporary, open(temporary, "wb") as stream:
                array = np.ascontiguousarray(slices[name].numpy())
                write_array_header_1_0(stream, header_data_from_array_1_0(array))
                stream.write(array.data)  # np.save loses the end of a file without an error where the disk is full
        except OSError as error:
            raise InputError(
                f"{file}: it cannot be written ({first_line(error)}): make room or choose another cache_dir."
            ) from error


def _content(path: Path) -> list[str]:
    """Returns the hashes of the files that a scan consists of; for a folder, in the order of their names."""
    try:
        return [hash_of_file(file) for file in files_of(path)]
    except OSError as error:
        raise InputError(f"{path}: it cannot be read ({first_line(error)}): replace it.") from error


def _plain(value: Any) -> Any:
    """Returns a JSON-serializable form of `value`; refuses functions."""
    if hasattr(value, "__code__"):
        raise InputError(
            f"cache_key: {value.__qualname__} is a function, and the cache cannot know what it depends on: use a "
            "transform's class, or leave out cache_dir."
        )
    return plain_form(value)
