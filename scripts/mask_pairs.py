"""Pairs masks with labels by their names; shared by the scripts that measure masks and compare results.

Names are compared without the ending of their format and without words that programs put after the name of a case, such
as `ct_01_seg.nii.gz` and `ct_01_label.nrrd`. Folders below the two that are given are part of the name.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sifa.io.formats import PAIR_SUFFIXES, SCAN_SUFFIXES, suffix_of, without_suffix
from sifa.utils.errors import InputError

WORDS = (  # after the name of a case, behind one of `SEPARATORS`
    *("seg", "segmentation", "mask", "masks", "pred", "prediction", "trans"),
    *("label", "labels", "gt", "truth", "image", "img"),
)
SEPARATORS = "_-. "
CHANNEL = "_0000"  # of nnU-Net, in the names of images
OTHER_OUTPUTS = ("_uncertainty.nii.gz", "_probabilities.nii.gz")  # of `run inference`
LISTED = 3  # names in a message


@dataclass(frozen=True)
class MaskPair:
    """A mask and the label that it is measured on."""

    case: str
    mask: Path
    label: Path


@dataclass(frozen=True)
class Pairing:
    """What two folders hold.

    Args:
        pairs: to measure, sorted by case.
        refused: labels that have no mask or several, with the reason, by case.
        unused: masks without a label.
    """

    pairs: Sequence[MaskPair]
    refused: dict[str, str]
    unused: Sequence[Path]


def case_name(name: str) -> str:
    """Returns the name of a file without the ending of its format and without the words in `WORDS` after it."""
    folder, _, base = name.rpartition("/")
    base = without_suffix(base)
    while (shorter := _without_word(base)) != base:
        base = shorter
    return f"{folder}/{base}" if folder else base


def pair_masks(masks: Path, labels: Path) -> Pairing:
    """Pairs the files of two folders, or two files.

    Args:
        masks: the masks to measure.
        labels: the truth.

    Raises:
        InputError: when one of them does not exist or holds no mask, when both are the same, when one is a file and the
            other a folder, or when no mask has a label.
    """
    for path, what in ((masks, "masks"), (labels, "labels")):
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder: give the folder of the {what}.")
    if masks.resolve() == labels.resolve():
        raise InputError(f"{masks}: it is given as masks and as labels: give the folder of the labels as the second.")
    if masks.is_file() != labels.is_file():
        raise InputError(f"{masks} and {labels}: one is a file and the other a folder: give two files or two folders.")
    if masks.is_file():
        for path in (masks, labels):
            if not suffix_of(path):
                raise InputError(f"{path}: it is not a NIfTI, NRRD or MetaImage file: convert it to NIfTI.")
        return Pairing([MaskPair(case_name(labels.name), masks, labels)], {}, [])
    found_masks, found_labels = _by_case(masks, "masks"), _by_case(labels, "labels")
    for case in found_masks.keys() - found_labels.keys():
        if (short := case.removesuffix(CHANNEL)) in found_labels:
            found_masks.setdefault(short, []).extend(found_masks.pop(case))
    pairs, refused = [], {}
    for case, truths in found_labels.items():
        files = found_masks.pop(case, [])
        if len(truths) > 1:
            refused[case] = f"{_listed(truths)} are labels of one case: keep one of them."
        elif len(files) > 1:
            refused[case] = f"{_listed(files)} are masks for one label, {truths[0].name}: keep one of them."
        elif not files:
            refused[case] = f"{truths[0]}: no mask of {masks} has its name: add the mask, or remove the label."
        else:
            pairs.append(MaskPair(case, files[0], truths[0]))
    unused = [file for files in found_masks.values() for file in files]
    if not pairs and not any("for one label" in reason for reason in refused.values()):
        raise InputError(
            f"{masks}: no mask has the name of a label in {labels}: masks are named like {_listed(unused)}, labels "
            f"like {_listed([file for files in found_labels.values() for file in files])}: rename the masks."
        )
    return Pairing(sorted(pairs, key=lambda pair: pair.case), refused, sorted(unused))


def _by_case(root: Path, what: str) -> dict[str, list[Path]]:
    """Returns the files of masks below a folder by the names of their cases."""
    found: dict[str, list[Path]] = defaultdict(list)
    for name, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for file in (Path(name) / entry for entry in sorted(names)):
            if _is_mask(file):
                found[case_name(file.relative_to(root).as_posix())].append(file)
    if not found:
        raise InputError(f"{root}: it holds no NIfTI, NRRD or MetaImage file: give the folder of the {what}.")
    return found


def _is_mask(file: Path) -> bool:
    suffix = suffix_of(file, SCAN_SUFFIXES)
    hidden = file.name.startswith(".") or file.name.endswith(OTHER_OUTPUTS)
    is_second = suffix in PAIR_SUFFIXES and suffix.startswith(".img")  # the voxels of a header beside it
    return suffix != "" and not hidden and not is_second


def _without_word(base: str) -> str:
    for word in WORDS:
        rest = base[: len(base) - len(word)]
        if base.lower().endswith(word) and len(rest) > 1 and rest[-1] in SEPARATORS:
            return rest[:-1]
    return base


def _listed(files: Sequence[Path]) -> str:
    names = [file.name for file in files[:LISTED]]
    return ", ".join(names) + (", ..." if len(files) > LISTED else "")
