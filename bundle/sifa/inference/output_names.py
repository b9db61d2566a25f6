"""What masks and the files beside them are called (`--naming`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sifa.io.formats import NIFTI_SUFFIXES, OTHER_SUFFIXES, SCAN_SUFFIXES, suffix_of, without_suffix
from sifa.utils.errors import InputError, UsageError

MASK_SUFFIX = "_seg.nii.gz"
UNCERTAINTY_SUFFIX = "_uncertainty.nii.gz"
PROBABILITIES_SUFFIX = "_probabilities.nii.gz"
OUTDATED = ".outdated"  # in the names of files that belong to earlier scans, see `Manifest.set_aside`
SEG, NNUNET, MIRROR = NAMINGS = ("seg", "nnunet", "mirror")
FIRST_CHANNEL = "_0000"  # how nnU-Net names the only image of a case


def stem(scan: Path) -> str:
    """Returns the name of a scan without the ending of its format; a folder's name as it is."""
    return scan.name if scan.is_dir() else without_suffix(scan.name, (*SCAN_SUFFIXES, *OTHER_SUFFIXES))


def mask_path(scan: Path, root: Path, output: Path) -> Path:
    """Returns the path of the mask of `scan`: the scan's path below `root`, without extension, below `output`."""
    return output / scan.relative_to(root).parent / f"{stem(scan)}{MASK_SUFFIX}"


def base_of(mask: Path) -> str:
    """Returns the beginning that the names of a mask and of the files beside it have in common."""
    suffix = suffix_of(mask, NIFTI_SUFFIXES)
    return mask.name.removesuffix(MASK_SUFFIX) if mask.name.endswith(MASK_SUFFIX) else mask.name[: -len(suffix)]


def beside(mask: Path, ending: str) -> Path:
    """Returns the path of a file beside a mask: the mask's name with `ending` in the place of its own."""
    return mask.with_name(base_of(mask) + ending)


def free_name(path: Path) -> Path:
    """Returns the first name of `.outdated`, `.outdated.2`, ... that is free."""
    number, aside = 1, path.with_name(f"{path.name}{OUTDATED}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}{OUTDATED}.{number}")
    return aside


def require_naming(naming: object) -> None:
    """Refuses an unknown naming.

    Raises:
        UsageError: when it is none of `NAMINGS`.
    """
    if naming not in NAMINGS:
        raise UsageError(f"--naming {naming}: choose seg, nnunet or mirror.")


def require_apart(root: Path, output: Path, naming: str) -> None:
    """Refuses an output folder in which masks could be called like scans.

    Args:
        root: folder of scans, or a single scan.
        output: folder of the masks.
        naming: one of `NAMINGS`.

    Raises:
        InputError: when masks that are not called `*_seg.nii.gz` would lie in the folder of scans.
    """
    folder = root.parent if root.is_file() else root
    if naming != SEG and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(output)):
        raise InputError(
            f"{output}: with --naming {naming} a mask could take the place of a scan, since this is the folder of "
            f"scans or holds it ({folder}): give another --output_dir."
        )


def rename_masks(items: Iterable[Mapping[str, Any]], naming: str) -> list[dict[str, Any]]:
    """Returns the items of `find_scans` with masks named as wanted.

    Args:
        items: with masks `*_seg.nii.gz`, all distinct.
        naming: `seg` leaves them as they are. `nnunet`: the scan's name without extension and without `_0000`, as
            `.nii.gz`. `mirror`: the name of a NIfTI scan; `.nii.gz` in the place of the extension of others.

    Raises:
        InputError: when two scans would share a mask, or the names of the files beside it.
    """
    renamed = [{**item, "mask": str(_mask_of(item, naming))} for item in items]
    taken: dict[tuple[Path, str], str] = {}
    for item in renamed:
        mask = Path(item["mask"])
        if "skipped" not in item:
            other = taken.setdefault((mask.parent, base_of(mask)), item["image"])
            if other != item["image"]:
                raise InputError(
                    f"{item['image']}: with --naming {naming} its mask would be named like that of {other}: rename one "
                    "of the two scans, or take --naming seg."
                )
    return renamed


def _mask_of(item: Mapping[str, Any], naming: str) -> Path:
    image, mask = Path(item["image"]), Path(item["mask"])
    if naming == SEG:
        return mask
    base = base_of(mask) if image.is_dir() else stem(image)  # where files share a stem, the mask has the extension
    if naming == NNUNET:
        return mask.with_name(f"{base.removesuffix(FIRST_CHANNEL) or base}.nii.gz")
    is_nifti_file = not image.is_dir() and suffix_of(image) in NIFTI_SUFFIXES
    return mask.with_name(image.name if is_nifti_file else f"{base}.nii.gz")
