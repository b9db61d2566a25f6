"""Finds scans in folders like those of BIDS: `sub-*/[ses-*/]anat/*_T1w.nii.gz`, with labels under `derivatives/`."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from pathlib import Path

from sifa.utils.errors import InputError

from preparation.pairs import is_label
from preparation.scans import Domain, Scan, name_of, pick_channel, require_unique, scan_files

SUBJECT = re.compile(r"sub-[^_/]+")
LABEL_SUFFIXES = ("dseg", "roi")  # beside the words of labels, such as mask
PROBABILITIES = "probseg"  # suffix of maps that are neither images nor labels
DERIVED = ("space", "desc", "label", "seg", "res", "den", "hemi")  # entities that only derivatives have


def is_bids(folder: Path) -> bool:
    """Returns whether a folder holds subjects, `sub-*`, with scans."""
    return any(path.is_dir() and SUBJECT.fullmatch(path.name) for path in folder.iterdir())


def find_in_bids(folder: Path, labels: Path | None, channel: int | str | None, options: tuple[str, str]) -> Domain:
    """Finds the scans of all subjects, and labels in `derivatives/` or beside the scans.

    Args:
        folder: with the folders `sub-*`.
        labels: a folder of labels with subfolders `sub-*`; None: all of `folder`.
        channel: suffix of the scans, such as `T1w`; None: there is only one.
        options: the command-line options of the labels' folder and of the channel.

    Raises:
        InputError: when there are several kinds of scans and none is picked, or a scan has several labels.
    """
    raw = [file for file in scan_files(folder) if SUBJECT.fullmatch(file.relative_to(folder).parts[0])]
    images = [file for file in raw if SUBJECT.match(file.name) and not _is_label(file)]
    images = [image for image in images if _suffix(image) != PROBABILITIES]
    if not images:
        raise InputError(f"{folder}: its subjects have no scans sub-*_SUFFIX.nii.gz: give another folder.")
    suffixes = sorted({_suffix(image) for image in images})
    wanted = suffixes[pick_channel(dict(enumerate(suffixes)), channel, options[1], folder)]
    chosen = [image for image in images if _suffix(image) == wanted]
    candidates = [file for file in scan_files(labels or folder) if SUBJECT.match(file.name) and _is_label(file)]
    by_subject = defaultdict(list)
    for file in candidates:
        by_subject[_entities(file)["sub"]].append(file)
    scans = []
    for image in chosen:
        fitting = [file for file in by_subject[_entities(image)["sub"]] if _fits(file, image, wanted)]
        if len(fitting) > 1:
            raise InputError(
                f"{image}: it has several labels, {fitting[0]} and {fitting[1]}: give the folder of those to use "
                f"({options[0]})."
            )
        subject = SUBJECT.match(image.name)
        assert subject is not None
        scans.append(Scan(subject[0], name_of(image), image, fitting[0] if fitting else None))
    require_unique(scans)
    used = {scan.label for scan in scans}
    unused = [file for file in candidates if file not in used and len(suffixes) == 1]
    if unused:
        raise InputError(f"{unused[0]}: no scan fits this label: add the scan, or move the label away.")
    return Domain(folder, "BIDS", scans, wanted, _names(folder, labels))


def _suffix(file: Path) -> str:
    """Returns the last part of a name, such as `T1w`."""
    return name_of(file).rsplit("_", 1)[-1]


def _is_label(file: Path) -> bool:
    return _suffix(file) in LABEL_SUFFIXES or is_label(file)


def _entities(file: Path) -> dict[str, str]:
    """Returns the parts of a name that are written `key-value`."""
    parts = (part.split("-", 1) for part in name_of(file).split("_") if "-" in part)
    return {part[0]: part[1] for part in parts}


def _fits(label: Path, image: Path, suffix: str) -> bool:
    """Returns whether a label is that of an image: the same entities, and no other kind of scan in its name."""
    found, wanted = _entities(label), _entities(image)
    kinds = [part for part in name_of(label).split("_") if "-" not in part]
    other = [kind.split("-")[0] for kind in kinds[:-1]]
    agree = all(found[key] == wanted.get(key) for key in found if key not in DERIVED)
    return agree and found.get("ses") == wanted.get("ses") and (not other or suffix in other)


def _names(folder: Path, labels: Path | None) -> dict[int, str]:
    """Returns the names of structures that a table `*dseg.tsv` gives by value."""
    tables = [*(labels or folder / "derivatives").rglob("*dseg.tsv"), *folder.glob("*dseg.tsv")]
    names = {}
    for table in sorted(tables)[:1]:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        for row in rows:
            if not str(row.get("index", "")).isdigit() or not row.get("name"):
                raise InputError(f"{table}: a row lacks its index or its name: complete the table.")
            names[int(row["index"])] = row["name"]
    return names
