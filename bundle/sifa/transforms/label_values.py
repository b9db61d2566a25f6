"""The values that labels and masks hold in files, and the classes that the network counts from 0: maps between both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sifa.utils.errors import InputError

LOWEST, HIGHEST = np.iinfo(np.int16).min, np.iinfo(np.int16).max  # of the values in files
UNLISTED = -1  # in a table of classes
SLICES = 16  # mapped at once


def is_identity(label_map: Mapping[int, int]) -> bool:
    """Returns whether every value is mapped to itself."""
    return all(value == mapped for value, mapped in label_map.items())


def look_up(
    values: npt.NDArray[np.integer], label_map: Mapping[int, int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Looks up every value of an array of labels.

    Args:
        values: of any shape.
        label_map: new value, from 0 on, of each value.

    Returns:
        The new values, and where `label_map` does not list the value; there the new value is `UNLISTED`.
    """
    lowest, highest = min(label_map), max(label_map)
    table = np.full(highest - lowest + 1, UNLISTED, np.int32)
    for value, mapped in label_map.items():
        table[value - lowest] = mapped
    found = table[values.clip(lowest, highest) - lowest]
    found[(values < lowest) | (values > highest)] = UNLISTED
    return found, found == UNLISTED


def map_labels(labels: npt.NDArray[Any], label_map: Mapping[int, int]) -> npt.NDArray[np.int16]:
    """Replaces every value of an array of labels.

    Args:
        labels: whole numbers, but for rounding, of any type; at least one axis.
        label_map: new value, from 0 on, of every value that may occur; both within the range of int16.

    Returns:
        int16 of the same shape.

    Raises:
        InputError: when a value occurs that `label_map` does not list; the sentence does not name the file.
    """
    result = np.empty(labels.shape, np.int16)
    for start in range(0, labels.shape[-1], SLICES):
        part = (..., slice(start, start + SLICES))
        whole = np.rint(labels[part].astype(np.float64)).astype(np.int64)
        result[part], unlisted = look_up(whole, label_map)
        if unlisted.any():
            raise InputError(
                f"it holds the value {whole[unlisted].flat[0]}, which is not among the labels "
                f"{', '.join(map(str, label_map))}: add it to the label_map of the data set."
            )
    return result
