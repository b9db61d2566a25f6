"""Pairs images with labels by the names of their files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sifa.utils.errors import InputError

from preparation.scans import name_of

LABEL_WORDS = "labels?|lbl|segs?|segmentations?|masks?|gt|ground[_-]?truth|annotations?|manual"
IMAGE_WORDS = "images?|img|volume|vol|scan|im"
SEPARATORS = r"[_\-. ]"


def _words_at_an_end(words: str) -> re.Pattern[str]:
    """Returns what words match at the beginning of a name, before a number or a separator, or at its end."""
    return re.compile(rf"^(?:{words})(?:{SEPARATORS}|(?=\d)|$)|(?:{SEPARATORS}|^)(?:{words})$", re.IGNORECASE)


LABEL, IMAGE = _words_at_an_end(LABEL_WORDS), _words_at_an_end(IMAGE_WORDS)


def is_label(path: Path) -> bool:
    """Returns whether a file is named like a label, such as `case_seg.nii.gz`, `label0001.nii.gz` or `mask.nrrd`."""
    return LABEL.search(name_of(path)) is not None


def subject_name(path: Path) -> str:
    """Returns the name of a file without its ending and words for images and labels, such as `_image` or `_seg`."""
    return IMAGE.sub("", LABEL.sub("", name_of(path))).casefold()


def pair_by_name(images: Mapping[Path, Path], labels: Mapping[Path, Path], expected: str) -> dict[Path, Path]:
    """Pairs images with labels: by equal names, then by names without usual words, then as the only two of a folder.

    Args:
        images: images by their path below the folder of all images.
        labels: labels by their path below the folder of all labels, which may be the same folder.
        expected: what to do about a label without an image, for the message.

    Returns:
        The label of each image that has one, by paths.

    Raises:
        InputError: when a label has no image, or a name fits several images or labels.
    """
    pairs: dict[Path, Path] = {}
    rules: Sequence[Callable[[Path], object]] = (
        lambda path: path.with_name(name_of(path)),
        lambda path: (path.parent, subject_name(path)),
        lambda path: path.parent if path.parent != Path() else path,
    )
    for rule in rules:
        left = {path: image for path, image in images.items() if image not in pairs}
        waiting = {path: label for path, label in labels.items() if label not in pairs.values()}
        by_key: dict[object, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
        for side, files in enumerate((left, waiting)):
            for path, file in files.items():
                by_key[rule(path)][side].append(file)
        for candidates, found in by_key.values():
            if len(candidates) == len(found) == 1:
                pairs[candidates[0]] = found[0]
            elif candidates and found and rule is not rules[-1]:
                more, what = (candidates, "images") if len(candidates) > 1 else (found, "labels")
                other = found[0] if what == "images" else candidates[0]
                raise InputError(
                    f"{other}: its name fits several {what}, {more[0].name} and {more[1].name}: rename one of them."
                )
    alone = [label for label in labels.values() if label not in pairs.values()]
    if alone:
        raise InputError(f"{alone[0]}: no image has a name that fits this label: {expected}.")
    return pairs
