"""Class probabilities of a whole scan, kept on disk while they are computed and written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch

from sifa.inference.results import PROBABILITY_SCALE
from sifa.utils.errors import InputError

CHUNK = 1 << 24  # bytes written at once


@contextmanager
def probability_volume(folder: Path, classes: int, shape: Sequence[int]) -> Iterator[np.ndarray]:
    """Yields an array for the class probabilities of a scan, in a temporary file, so that it needs no memory.

    Every voxel begins as background.

    Args:
        folder: where the file lies, which has no name and vanishes with the process; it is created.
        classes: number of classes, background included.
        shape: of the scan, (X, Y, Z).

    Yields:
        (classes, X, Y, Z) uint8, each probability times `PROBABILITY_SCALE`; stored like NIfTI, X being the fastest.

    Raises:
        InputError: when the disk has no room for it.
    """
    voxels = int(np.prod(shape))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as stream:
        try:
            _reserve(stream, classes * voxels)  # a mapped file without room would end the process
            _write(stream, PROBABILITY_SCALE, voxels)
        except OSError as error:
            raise InputError(
                f"its class probabilities need {classes * voxels / 1e9:.2f} GB beside the mask while they are written "
                f"({error.strerror}): make room or leave out --probabilities."
            ) from error
        volume = np.memmap(stream, np.uint8, "r+", shape=(classes, *reversed(shape)))
        yield volume.transpose(0, 3, 2, 1)


def _reserve(stream: IO[bytes], count: int) -> None:
    """Makes a file of `count` zeros for which the disk has room."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, count)
    else:
        _write(stream, 0, count)
        stream.seek(0)


def _write(stream: IO[bytes], value: int, count: int) -> None:
    """Writes `count` bytes of one value."""
    block = bytes([value]) * min(CHUNK, count)
    for start in range(0, count, CHUNK):
        stream.write(block[: count - start])
    stream.flush()


def store_slab(slices: np.ndarray, probabilities: torch.Tensor, restore: Callable[[torch.Tensor], np.ndarray]) -> None:
    """Writes the probabilities of a part of a scan into its volume.

    Args:
        slices: (N, classes, H, W) uint8, a view on the slices of the volume.
        probabilities: (N, classes, rows, columns).
        restore: maps values (N, rows, columns) to whole slices (N, H, W), 0 outside the part.
    """
    steps = (probabilities * PROBABILITY_SCALE).round()
    slices[:, 0] = PROBABILITY_SCALE - restore(PROBABILITY_SCALE - steps[:, 0])  # outside the part is background
    for number in range(1, steps.shape[1]):
        slices[:, number] = restore(steps[:, number])
