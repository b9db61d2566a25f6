"""What a `dataset.json` of nnU-Net or of the Medical Segmentation Decathlon says about channels and structures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sifa.utils.errors import InputError


def channel_names(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Returns the names of the channels by number; empty where the file does not name them.

    Args:
        content: of the file: `channel_names` or `modality`.
        path: the file, for messages.

    Raises:
        InputError: when they are not names by number.
    """
    given = content.get("channel_names", content.get("modality", {}))
    if isinstance(given, str):
        given = {"0": given}
    if not isinstance(given, Mapping) or not all(str(number).isdigit() for number in given):
        raise InputError(f'{path}: its channels are {given!r}: write their names by number, such as {{"0": "CT"}}.')
    return {int(number): str(name) for number, name in sorted(given.items(), key=lambda entry: int(entry[0]))}


def structure_names(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Returns the names of structures by the value in labels, background included; empty where values have no names.

    nnU-Net's second version writes values by name and may define regions, lists of values, which overlap.

    Args:
        content: of the file: `labels`.
        path: the file, for messages.

    Raises:
        InputError: when they are neither names by value nor values by name.
    """
    given = content.get("labels", {})
    if isinstance(given, Mapping) and all(str(value).isdigit() for value in given):
        return {int(value): str(name) for value, name in given.items()}
    if not isinstance(given, Mapping) or not all(type(value) in (int, list) for value in given.values()):
        raise InputError(f"{path}: its labels are {given!r}: write an object of names and values.")
    if any(isinstance(value, list) for value in given.values()):
        return {}
    return {value: str(name) for name, value in given.items()}
