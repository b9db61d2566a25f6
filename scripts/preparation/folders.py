"""Finds scans in plain folders: images and labels in two folders, beside each other, or one folder a patient."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from sifa.utils.errors import InputError

from preparation.pairs import is_label, pair_by_name, subject_name
from preparation.scans import Domain, Scan, name_of, pick_channel, require_unique, scan_files

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "scans", "volumes")
LABEL_FOLDERS = (
    "labels",
    "label",
    "masks",
    "mask",
    "segmentations",
    "segmentation",
    "segs",
    "seg",
    "annotations",
    "gt",
)
CHANNEL = re.compile(r"^(.*)_(\d{4})$")  # nnU-Net's number of the channel at the end of a name
EXPECTED = "add the image, rename the label like it, or move the label away"


def find_in_folders(folder: Path, labels: Path | None, channel: int | str | None, options: tuple[str, str]) -> Domain:
    """Finds images and their labels by the names of the files.

    Args:
        folder: with the images, or with a folder of images and one of labels.
        labels: a folder of labels; None: they are where the images are, if there are any.
        channel: number of the channel, where files end with one (`_0000`, `_0001`) or hold several.
        options: the command-line options of the labels' folder and of the channel.

    Raises:
        InputError: when there are no images, a label has no image, or names are ambiguous.
    """
    images_root, labels_root = _roots(folder, labels)
    files = scan_files(images_root, without=None if labels_root == images_root else labels_root)
    if labels_root is None:
        label_files = [file for file in files if is_label(file)]
        files = [file for file in files if not is_label(file)]
        labels_root = images_root
    else:
        label_files = scan_files(labels_root)
    if not files:
        raise InputError(f"{images_root}: it holds no image (NIfTI, NRRD or MetaImage): give the folder of the scans.")
    if labels is not None and not label_files:
        raise InputError(f"{labels}: it holds no label (NIfTI, NRRD or MetaImage): give the folder of the labels.")
    label_names = {name_of(path) for path in label_files}
    images, number = _of_one_channel(images_root, files, label_names, channel, options[1])
    pairs = pair_by_name(images, {path.relative_to(labels_root): path for path in label_files}, EXPECTED)
    scans = [
        Scan(
            subject=path.parts[0] if len(path.parts) > 1 else (subject_name(path) or name_of(path)),
            name="_".join([*path.parent.parts, name_of(path)]),
            image=image,
            label=pairs.get(image),
            channel=number,
        )
        for path, image in images.items()
    ]
    require_unique(scans)
    return Domain(folder, "files", scans)


def _roots(folder: Path, labels: Path | None) -> tuple[Path, Path | None]:
    """Returns the folders of images and of labels; None: labels lie among the images."""
    if labels is not None:
        return folder, labels
    below = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    images = [path for path in below if path.name.casefold() in IMAGE_FOLDERS]
    found = [path for path in below if path.name.casefold() in LABEL_FOLDERS]
    return (images[0], found[0]) if len(images) == len(found) == 1 else (folder, None)


def _of_one_channel(
    root: Path, files: list[Path], label_names: Collection[str], channel: int | str | None, option: str
) -> tuple[dict[Path, Path], int | None]:
    """Returns images by their path below `root`, and the channel to take of files that hold several.

    Where names end with the number of a channel, it is left out of the paths. It is that of a case where labels have
    it, too, or there would be but one case.
    """
    matches = {file: CHANNEL.match(name_of(file)) for file in files}
    numbered = {file: match for file, match in matches.items() if match is not None}
    cases: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    for file, match in numbered.items():
        cases[file.parent, match[1]][int(match[2])] = file
    are_channels = len(numbered) == len(files) and all(0 in case for case in cases.values())
    are_cases = any(name_of(file) in label_names for file in files) or (len(cases) == 1 and len(files) > 1)
    if not are_channels or are_cases:
        number = int(channel) if channel is not None and str(channel).isdigit() else None
        if channel is not None and number is None:
            raise InputError(f"{root}: its channels have no names: give {option} a number, from 0.")
        return {file.relative_to(root): file for file in files}, number
    names = {number: str(number) for case in cases.values() for number in case}
    number = pick_channel(dict(sorted(names.items())), channel, option, root)
    images = {}
    for (parent, name), case in cases.items():
        if number not in case:
            raise InputError(f"{case[0]}: there is no channel {number} of this scan: add {name}_{number:04d}.")
        image = case[number]
        images[(parent / f"{name}{image.name[len(name_of(image)) :]}").relative_to(root)] = image
    return images, None
