"""Finds scans in a folder of nnU-Net's raw data, of both versions, with or without its `dataset.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sifa.data.other_layouts import NNUNET
from sifa.io.formats import SCAN_SUFFIXES, suffix_of
from sifa.utils.errors import InputError

from preparation.foreign_json import channel_names, structure_names
from preparation.scans import Domain, Scan, pick_channel

TRAINING, TESTING = ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")


def find_in_nnunet(folder: Path, content: Mapping[str, Any], channel: int | str | None, option: str) -> Domain:
    """Finds the scans `imagesTr/CASE_0000.nii.gz` with `labelsTr/CASE.nii.gz`, and those for testing.

    Args:
        folder: with `imagesTr` and `labelsTr`, or whose `dataset.json` names the files of each case (`dataset`).
        content: of its `dataset.json`; empty where there is none.
        channel: number or name of the channel; None: there is only one.
        option: the command-line option that picks a channel.

    Raises:
        InputError: when a file is missing, or there are several channels and none is picked.
    """
    path = folder / "dataset.json"
    ending = _ending(folder, content)
    named = channel_names(content, path)
    channels = named or _numbered_channels(folder / TRAINING[0], ending)
    number = pick_channel(channels, channel, option, path if content else folder)
    entries = content.get("dataset")
    if isinstance(entries, Mapping):
        scans = [_of_entry(folder, case, entry, number, path) for case, entry in entries.items()]
    else:
        scans = _of_folders(folder, TRAINING, ending, number, _listed(content, ending))
    if not scans:
        raise InputError(f"{folder / TRAINING[0]}: it holds no scan CASE_{number:04d}{ending}: add the scans.")
    tests = _of_folders(folder, TESTING, ending, number, ())
    for scan in scans:
        for file in filter(None, (scan.image, scan.label)):
            if not file.is_file():
                raise InputError(f"{file}: there is no such file, although its case is in {folder}: add it.")
    return Domain(folder, NNUNET, [*scans, *tests], named.get(number), structure_names(content, path))


def _ending(folder: Path, content: Mapping[str, Any]) -> str:
    """Returns the ending of all files, as `file_ending` or the first label says."""
    images = folder / TRAINING[0]
    files = sorted(images.iterdir()) if images.is_dir() else []
    found = next((file.name[-len(suffix_of(file)) :] for file in files if suffix_of(file)), ".nii.gz")
    ending = str(content.get("file_ending", found))
    if ending.lower() not in SCAN_SUFFIXES:
        raise InputError(
            f"{folder / 'dataset.json'}: its file_ending is {ending}, and what is read is {', '.join(SCAN_SUFFIXES)}: "
            "convert the files."
        )
    return ending


def _names(folder: Path, ending: str) -> list[str]:
    """Returns the names of the files with an ending, without it, sorted."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        file.name[: -len(ending)] for file in files if file.name.endswith(ending) and not file.name.startswith(".")
    )


def _numbered_channels(images: Path, ending: str) -> dict[int, str]:
    """Returns the channels that names of files end with, where no `dataset.json` names them."""
    found = {int(name[-4:]) for name in _names(images, ending) if name[-5:-4] == "_" and name[-4:].isdigit()}
    return {number: str(number) for number in sorted(found)}


def _listed(content: Mapping[str, Any], ending: str) -> list[str]:
    """Returns the cases of the list `training` of the first version, whose images lack the channel's number."""
    entries = content.get("training", ())
    images = [str(entry.get("image", "")) for entry in entries if isinstance(entry, Mapping)]
    return [Path(image).name.removesuffix(ending) for image in images]


def _of_folders(
    folder: Path, pair: tuple[str, str], ending: str, channel: int, listed: list[str] | tuple[()]
) -> list[Scan]:
    """Returns the scans of a folder of images and one of labels.

    Those for testing may lack labels. Those for training have one each, or there are none at all, as in a target that
    nobody has labeled.

    Args:
        folder: that holds both.
        pair: names of the two folders.
        ending: of all files.
        channel: number of the channel.
        listed: the cases; empty: all that have a file of any channel.
    """
    images, labels = folder / pair[0], folder / pair[1]
    cases = listed or [name[:-5] for name in _names(images, ending) if name[-5:-4] == "_" and name[-4:].isdigit()]
    may_lack_label = pair == TESTING or not _names(labels, ending)
    scans = []
    for case in dict.fromkeys(cases):
        label: Path | None = labels / f"{case}{ending}"
        if may_lack_label and label is not None and not label.is_file():
            label = None
        image = images / f"{case}_{channel:04d}{ending}"
        scans.append(Scan(case, case, image, label, is_test=pair == TESTING))
    return scans


def _of_entry(folder: Path, case: str, entry: Any, channel: int, path: Path) -> Scan:
    """Returns a case of the entry `dataset`, which names files anywhere."""
    images = entry.get("images") if isinstance(entry, Mapping) else None
    if not isinstance(images, list) or len(images) <= channel or not isinstance(entry.get("label"), str):
        raise InputError(f"{path}: dataset.{case} lacks the image of channel {channel} or the label: add it.")
    return Scan(case, case, folder / str(images[channel]), folder / entry["label"])
