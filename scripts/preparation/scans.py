"""What a layout lists: scans with or without labels, and what it says about them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sifa.io.formats import PAIR_SUFFIXES, suffix_of, without_suffix
from sifa.utils.errors import InputError


@dataclass(frozen=True)
class Scan:
    """A scan of a domain."""

    subject: str  # all scans of a subject belong in one list
    name: str  # of the scan, for files that are written: unique in its domain
    image: Path  # a file, or the folder of a DICOM series
    label: Path | None = None  # a file: NIfTI, NRRD, MetaImage, DICOM SEG or RTSTRUCT
    is_test: bool = False  # whether the layout keeps it for testing
    channel: int | None = None  # of a file with several


@dataclass(frozen=True)
class Domain:
    """The scans of the source or of the target."""

    folder: Path
    layout: str  # its name
    scans: Sequence[Scan]
    modality: str | None = None  # None: the layout does not tell
    names: Mapping[int, str] = field(default_factory=dict)  # of structures, by the value in labels; empty: unknown


def name_of(path: Path) -> str:
    """Returns the name of a file without the ending of its format."""
    return without_suffix(path.name)


def files_below(folder: Path) -> Iterator[Path]:
    """Yields the files in a folder and below it, each folder sorted; links are followed, hidden files left out."""
    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path


def scan_files(folder: Path, without: Path | None = None) -> list[Path]:
    """Returns the files of scans in a folder and below it: NIfTI, NRRD and MetaImage.

    Args:
        folder: where to look.
        without: a folder whose files are left out.
    """
    found = []
    for path in files_below(folder):
        suffix = suffix_of(path)
        second = suffix in PAIR_SUFFIXES and suffix.startswith(".img")  # the header names the pair
        if suffix and not second and not (without and without in path.parents):
            found.append(path)
    return found


def require_unique(scans: Iterable[Scan]) -> None:
    """Refuses two scans of one name.

    Raises:
        InputError: when there are such.
    """
    seen: dict[str, Scan] = {}
    for scan in scans:
        if scan.name in seen:
            raise InputError(
                f"{scan.image}: it has the name {scan.name} in common with {seen[scan.name].image}: rename one of them."
            )
        seen[scan.name] = scan


def pick_channel(names: Mapping[int, str], channel: int | str | None, option: str, place: Path) -> int:
    """Returns the number of the channel that is used.

    Args:
        names: of the channels by number, empty where unknown.
        channel: number or name, as given on the command line; None: the only one.
        option: the command-line option that picks a channel.
        place: the file or folder with the channels, for messages.

    Raises:
        InputError: when there are several and none is picked, or there is no such channel.
    """
    choices = ", ".join(f"{number} ({name})" if name != str(number) else name for number, name in names.items())
    if channel is None:
        if len(names) > 1:
            raise InputError(
                f"{place}: its scans have {len(names)} channels, and training takes one: pick one with {option}: "
                f"{choices}."
            )
        return next(iter(names), 0)
    wanted = str(channel).strip()
    for number, name in names.items():
        if wanted.casefold() == name.casefold() or (wanted.isdigit() and int(wanted) == number):
            return number
    raise InputError(f"{place}: it has no channel {channel}: choose {option} from {choices}.")
