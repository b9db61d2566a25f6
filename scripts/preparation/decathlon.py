"""Finds scans in a folder of the Medical Segmentation Decathlon, whose `dataset.json` lists every file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sifa.data.other_layouts import DECATHLON
from sifa.utils.errors import InputError

from preparation.foreign_json import channel_names, structure_names
from preparation.scans import Domain, Scan, name_of, pick_channel, require_unique


def is_decathlon(folder: Path, content: Mapping[str, Any]) -> bool:
    """Returns whether a `dataset.json` lists images by their own names; nnU-Net's first version leaves the channel out.

    Args:
        folder: of the file.
        content: of the file.
    """
    images = [folder / str(entry.get("image")) for entry in content.get("training", ()) if isinstance(entry, Mapping)]
    return any(image.is_file() for image in images)


def find_in_decathlon(folder: Path, content: Mapping[str, Any], channel: int | str | None, option: str) -> Domain:
    """Finds the scans of the lists `training` and `test`; the latter have no labels.

    Args:
        folder: with `dataset.json`.
        content: of the file.
        channel: number or name of the channel; None: there is only one.
        option: the command-line option that picks a channel.

    Raises:
        InputError: when a file is missing, or there are several channels and none is picked.
    """
    path = folder / "dataset.json"
    channels = channel_names(content, path)
    number = pick_channel(channels, channel, option, path)
    several = number if len(channels) > 1 else None  # the fourth axis of each image
    scans = []
    for entry in content["training"]:
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
            raise InputError(f"{path}: training holds {entry!r}: give each case an image and a label.")
        image, label = _existing(folder, entry["image"], path), _existing(folder, entry["label"], path)
        scans.append(Scan(name_of(image), name_of(image), image, label, channel=several))
    for entry in content.get("test", ()):
        image = _existing(folder, entry.get("image") if isinstance(entry, Mapping) else entry, path)
        scans.append(Scan(name_of(image), name_of(image), image, None, is_test=True, channel=several))
    require_unique(scans)
    return Domain(folder, DECATHLON, scans, channels.get(number), structure_names(content, path))


def _existing(folder: Path, name: Any, path: Path) -> Path:
    file = folder / str(name)
    if not file.is_file():
        raise InputError(f"{path}: it lists {name}, which does not exist: add the file.")
    return Path(folder, *file.relative_to(folder).parts)  # without "./"
