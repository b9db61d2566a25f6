"""Reads the labels of a domain: what they hold, and those that have to be converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sifa.io.nifti_writer import write_mask
from sifa.utils.errors import InputError
from tqdm import tqdm

from preparation.label_files import has_names, names_in, read_label, read_named_label
from preparation.label_maps import Key, Vocabulary
from preparation.scans import Domain, Scan
from preparation.survey import ImageFacts


def read_vocabulary(
    name: str, domain: Domain, facts: Mapping[Path, ImageFacts], option: str, converted: dict[Path, Path], work: Path
) -> Vocabulary | None:
    """Returns what the labels of a domain hold; None where there is no label.

    Args:
        name: source or target.
        domain: the scans.
        facts: what was found in each scan.
        option: the command-line option that maps labels.
        converted: gets the converted file of each label that cannot be used as it is, but for those of DICOM.
        work: folder for converted labels.

    Raises:
        InputError: when a label cannot be read or does not fit its scan, or some labels name structures and others
            number them.
    """
    scans = [scan for scan in domain.scans if scan.label is not None]
    if not scans:
        return None
    found: dict[Key, Path] = {}
    names: dict[Key, str] = dict(domain.names.items())
    kinds = {has_names(label): label for label in (scan.label for scan in scans) if label is not None}
    if len(kinds) > 1:
        raise InputError(
            f"{kinds[False]}: it numbers structures, and {kinds[True]} names them: give labels of the {name} that are "
            "all of one kind."
        )
    for scan in tqdm(scans, desc=f"labels of the {name}", leave=False, disable=None):
        assert scan.label is not None
        if has_names(scan.label):
            for structure in names_in(scan.label):
                names.setdefault(structure.casefold(), structure)
                found.setdefault(structure.casefold(), scan.label)
            continue
        label = read_label(scan.label, facts[scan.image].grid, scan.image)
        for value in np.unique(label.voxels).tolist():
            found.setdefault(int(value), scan.label)
        if not label.is_file:
            converted[scan.label] = write_label(label.voxels, scan, facts[scan.image], work / name)
    return Vocabulary(name, option, names, found)


def convert_named_labels(
    name: str,
    scans: Sequence[Scan],
    facts: Mapping[Path, ImageFacts],
    classes: Mapping[Key, int],
    converted: dict[Path, Path],
    work: Path,
) -> None:
    """Converts the labels that name their structures, DICOM SEG and RTSTRUCT, to files of classes.

    Args:
        name: source or target.
        scans: of the domain.
        facts: what was found in each scan.
        classes: of each structure.
        converted: gets the converted file of each label.
        work: folder for converted labels.

    Raises:
        InputError: when a label does not fit its scan, or its structures overlap.
    """
    by_name = {str(key): index for key, index in classes.items() if isinstance(key, str)}
    for scan in tqdm(scans, desc=f"converting labels of the {name}", leave=False, disable=None):
        if scan.label is not None and has_names(scan.label):
            label = read_named_label(scan.label, facts[scan.image].grid, by_name)
            converted[scan.label] = write_label(label.voxels, scan, facts[scan.image], work / name)


def write_label(voxels: npt.NDArray[np.int64], scan: Scan, facts: ImageFacts, folder: Path) -> Path:
    """Writes the label of a scan on the scan's grid and returns the file."""
    path = folder / f"{scan.name}.nii.gz"
    least, most = int(voxels.min()), int(voxels.max())
    kind = np.uint8 if least >= 0 and most < 256 else np.int16 if most <= np.iinfo(np.int16).max else np.int32
    write_mask(voxels.astype(kind), scan.image, facts.grid.affine, path)
    return path
