"""Recognizes folders of scans in other layouts than this bundle's, such as nnU-Net's, and tells how to prepare them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sifa.io.formats import SCAN_SUFFIXES, begins_as_dicom, suffix_of

NNUNET = "nnU-Net"
DECATHLON = "the Medical Segmentation Decathlon"
DICOM_SUFFIXES = (".dcm", ".ima")
MOST_FOLDERS = 200  # that are looked through for scans


def layout_of(content: Mapping[str, Any]) -> str:
    """Returns whose `dataset.json` a content is: nnU-Net's, the Medical Segmentation Decathlon's, or neither ("").

    nnU-Net's first version has the keys of the Decathlon and counts as such.
    """
    if "channel_names" in content or "file_ending" in content:
        return NNUNET
    return DECATHLON if isinstance(content.get("training"), list) and "source" not in content else ""


def holds_scans(folder: Path) -> bool:
    """Returns whether there are files of scans in a folder or below it: NIfTI, NRRD, MetaImage or DICOM."""
    for number, (parent, folders, names) in enumerate(os.walk(folder)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        named = any(suffix_of(file, (*SCAN_SUFFIXES, *DICOM_SUFFIXES)) for file in files)
        if named or any(map(begins_as_dicom, files[:1])):
            return True
        if number >= MOST_FOLDERS:
            return False
    return False


def preparation_command(folder: Path, content: Mapping[str, Any] | None = None) -> str:
    """Returns the command that makes a data set of a folder, with its path in the place of the source or the target.

    Args:
        folder: the folder.
        content: of its `dataset.json` in another layout; where that names CT, the folder is the target.
    """
    modalities = {} if content is None else content.get("channel_names") or content.get("modality") or {}
    names = modalities.values() if isinstance(modalities, Mapping) else [modalities]
    path, is_ct = shlex.quote(str(folder)), any(str(name).strip().upper() == "CT" for name in names)
    domains = f"--source MR --target {path}" if is_ct else f"--source {path} --target CT"
    return f"python scripts/prepare_dataset.py {domains} --output_dir DATA"
