"""Finds the scans below a folder: files and DICOM series, including those that are to be skipped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from sifa.inference.manifest_log import log_of, read_entries
from sifa.inference.output_names import (
    MASK_SUFFIX,
    OUTDATED,
    PROBABILITIES_SUFFIX,
    SEG,
    UNCERTAINTY_SUFFIX,
    base_of,
    mask_path,
    rename_masks,
    require_apart,
    stem,
)
from sifa.io.dicom_acquisitions import find_volumes
from sifa.io.dicom_headers import in_slice_order, kind_of_name, may_be_lost_slice, read_slices, skip_reason
from sifa.io.dicom_slice import SliceHeader
from sifa.io.formats import (
    NIFTI_SUFFIXES,
    OTHER_SUFFIXES,
    PAIR_SUFFIXES,
    SCAN_SUFFIXES,
    begins_as_dicom,
    header_and_voxels,
    suffix_of,
)
from sifa.utils.errors import InputError

logger = logging.getLogger(__name__)

LABELS_FOLDER = "labels"  # in the studies folder, where MONAI Label writes masks ...
LABEL_VERSIONS = ("final", "original")  # ... into these folders ...
DATASTORE = "datastore_v2.json"  # ... and its index beside it
MANIFESTS = "manifest*.json*"  # of earlier runs and their shards, and their logs, in their output folders
# Entries of a case that name a file which could be taken for a scan.
OUTPUTS = ("output", "uncertainty", "probabilities", "dicom_seg", "rtstruct")
SLICES = "slices"  # detail of a series while scans are found: its UID and those of its slices
UNKNOWN = ("", "", "")  # the key of damaged files whose series is unknown

Key = tuple[str, str, str]  # series, reason to skip it, and the volume within it where it holds several


class _Found(NamedTuple):
    image: Path
    mask: Path
    details: dict[str, Any]


def find_scans(dataset_dir: str | Path, output_dir: str | Path, naming: str = SEG) -> list[dict[str, Any]]:
    """Finds every scan below `dataset_dir`, or the single scan that it names.

    Links are followed and nothing is found twice: a file that is reached both directly and by a link is listed at its
    own path. Left out without a message: earlier masks (`*_seg.nii.gz`) and maps (`*_uncertainty.nii.gz`,
    `*_probabilities.nii.gz`), files in `output_dir`, outputs that a `manifest.json` in `output_dir` or beside the scans
    lists, a `labels` folder of MONAI Label, and names that begin with a dot.

    Args:
        dataset_dir: a folder, or a single file: NIfTI, NRRD or MetaImage.
        output_dir: folder of the masks.
        naming: of the masks, see `sifa.inference.output_names.rename_masks`; `seg` is described here.

    Returns:
        Items `{"image": scan, "mask": output}`, sorted by scan, all masks distinct. `scan` is a file or the folder of a
        DICOM series; the latter also has `files`, its files in slice order. What is not to be segmented, such as other
        DICOM and files of other formats, has `skipped`: the reason, without patient data. A file or folder that cannot
        be read is listed as well, so that reading it fails and is reported; `files` of a series include its damaged
        slices, and it has `warnings` where damaged files beside it may belong to it.

        `output` is `<output_dir>/<path of the scan below dataset_dir, without extension>_seg.nii.gz`. Where two
        files would share it (`a.nii` beside `a.nii.gz`), they keep their extension in it; where a folder holds more
        than one series to segment, theirs are `<folder>_<8 hexadecimal digits, from the series' UID>_seg.nii.gz`; a
        series that holds several volumes, such as cardiac phases, gives an item for each, and each has its own digits.

    Raises:
        InputError: when `dataset_dir` does not exist, is a DICOM file or holds nothing to list, or when masks of this
            naming could take the place of scans or of one another.
    """
    root, output = Path(dataset_dir).absolute(), Path(output_dir).absolute()
    require_apart(root, output, naming)
    if root.is_file():
        if not suffix_of(root):
            dicom = "it is a single DICOM file: point --dataset_dir at the folder of its series."
            other = "it is not a NIfTI, NRRD or MetaImage file: convert it to NIfTI."
            raise InputError(f"{root}: {dicom if read_slices(root) else other}")
        return rename_masks([{"image": str(root), "mask": str(output / f"{stem(root)}{MASK_SUFFIX}")}], naming)
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder: point --dataset_dir at a folder of CT scans.")
    found = sorted(_below(root, output), key=lambda one: (one.image, one.mask, "skipped" in one.details))
    if not found:
        raise InputError(
            f"{root}: it holds no scan (NIfTI, NRRD, MetaImage or DICOM): point --dataset_dir at CT scans."
        )
    _note_split_series(found)
    return rename_masks([_item(one, mask) for one, mask in zip(found, _distinct(found), strict=True)], naming)


def _item(one: _Found, mask: Path) -> dict[str, Any]:
    item = {"image": str(one.image), "mask": str(mask), **one.details}
    if one.image.is_dir() and base_of(mask) != one.image.name:
        item["series"] = base_of(mask)
    return item


def _note_split_series(found: list[_Found]) -> None:
    """Adds a warning to each part of a series whose slices lie in several folders, as media of a PACS may have them."""
    parts: dict[str, list[tuple[_Found, frozenset[str]]]] = defaultdict(list)
    for one in found:
        if SLICES in one.details:
            series, slices = one.details.pop(SLICES)
            parts[series].append((one, slices))
    for series, several in parts.items():
        for one, slices in several:
            elsewhere = [other.image for other, more in several if other.image != one.image and more - slices]
            if series and elsewhere:
                one.details.setdefault("warnings", []).append(
                    f"other slices of its series are in {elsewhere[0].name}: put all files of a series into one folder"
                )


def _distinct(found: list[_Found]) -> list[Path]:
    """Returns distinct mask paths: where two would be equal, files keep their extension; then numbers follow."""
    planned = Counter(one.mask for one in found)
    masks: dict[Path, None] = {}
    for one in found:
        shared = planned[one.mask] > 1 and "files" not in one.details
        base = one.image.name if shared else one.mask.name[: -len(MASK_SUFFIX)]
        mask, number = one.mask.with_name(f"{base}{MASK_SUFFIX}"), 1
        while mask in masks:
            number += 1
            mask = one.mask.with_name(f"{base}_{number}{MASK_SUFFIX}")
        masks[mask] = None
    return list(masks)


def _below(root: Path, output: Path) -> Iterator[_Found]:
    files, unreadable = _files(root, output)
    for folder in unreadable:
        yield _Found(folder, mask_path(folder, root, output), {})
    for folder, entries in files.items():
        entries = [entry for entry in entries if OUTDATED not in entry.suffixes]
        named = [entry for entry in entries if suffix_of(entry, (*SCAN_SUFFIXES, *OTHER_SUFFIXES))]
        by_name = {entry: _details(entry) for entry in named if not _is_dicom(entry)}
        for scan, details in by_name.items():
            if details is not None:
                yield _Found(scan, mask_path(scan, root, output), details)
        yield from _series(folder, sorted(set(entries) - set(by_name)), mask_path(folder, root, output))


def _is_dicom(file: Path) -> bool:
    """Returns whether a file begins as DICOM, whatever its name is, but for NIfTI."""
    return suffix_of(file) not in NIFTI_SUFFIXES and begins_as_dicom(file)


def _details(file: Path) -> dict[str, Any] | None:
    """Returns the details of a file that is named like a scan; None where it is an output or part of another scan."""
    suffix = suffix_of(file)
    if file.name.endswith((MASK_SUFFIX, UNCERTAINTY_SUFFIX, PROBABILITIES_SUFFIX)):
        return None
    if not suffix:
        ending = suffix_of(file, OTHER_SUFFIXES)
        return {"skipped": f"files of the format {ending} are not read: convert or unpack it to NIfTI or DICOM"}
    if suffix in PAIR_SUFFIXES:
        try:
            header, _ = header_and_voxels(file)
        except InputError:
            return {"skipped": f"it has no {PAIR_SUFFIXES[suffix]} beside it: copy both files of the pair"}
        return {} if file == header else None
    return {}


def _files(root: Path, output: Path) -> tuple[dict[Path, list[Path]], list[Path]]:
    """Returns the files to examine by folder, each file once, and the folders that cannot be listed."""
    real_output = Path(os.path.realpath(output))
    beside = Path(os.path.realpath(root)).is_relative_to(real_output)  # masks lie beside the scans, or above them
    unreadable: list[Path] = []
    direct: list[tuple[Path, str]] = []  # files and their real paths
    linked: list[tuple[Path, str]] = []
    visited: set[str] = set()
    taken = _listed_outputs(output)
    pending = [root]
    for start in pending:  # links to folders are appended, so that real folders come first
        for name, folders, names in os.walk(start, onerror=lambda error: unreadable.append(Path(error.filename))):
            folder, real = Path(name), os.path.realpath(name)
            is_output = not beside and Path(real).is_relative_to(real_output)
            if real in visited or is_output or (folder != root and _is_label_store(folder, root)):
                folders.clear()
                continue
            visited.add(real)
            if any(fnmatch(entry, MANIFESTS) for entry in names):
                taken |= _listed_outputs(folder)
            folders[:] = sorted(entry for entry in folders if not entry.startswith("."))
            pending.extend(folder / entry for entry in folders if (folder / entry).is_symlink())
            for file in (folder / entry for entry in sorted(names) if not entry.startswith(".")):
                if not file.is_symlink():
                    direct.append((file, os.path.join(real, file.name)))
                elif beside or not Path(os.path.realpath(file)).is_relative_to(real_output):
                    linked.append((file, os.path.realpath(file)))
    files: dict[Path, list[Path]] = defaultdict(list)
    for file, real in direct + linked:
        if real not in taken:
            taken.add(real)
            files[file.parent].append(file)
    return files, unreadable


def _is_label_store(folder: Path, root: Path) -> bool:
    """Returns whether a folder holds masks of MONAI Label: in the studies folder `root`, or beside its index."""
    if folder.name != LABELS_FOLDER:
        return False
    versions = folder.parent == root and any((folder / version).is_dir() for version in LABEL_VERSIONS)
    return versions or (folder.parent / DATASTORE).is_file()


def _listed_outputs(output: Path) -> set[str]:
    """Returns the real paths of the outputs in the manifests and logs of `output`; unreadable ones are ignored."""
    listed: set[str] = set()
    for file in output.glob(MANIFESTS):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            is_log = file == log_of(file)
            for case in read_entries(file)[0] if is_log else json.loads(file.read_text(encoding="utf-8"))["cases"]:
                listed.update(os.path.realpath(output / case[kind]) for kind in OUTPUTS if case.get(kind))
    return listed


def _series(folder: Path, files: list[Path], plain: Path) -> Iterator[_Found]:
    """Yields the DICOM series among the files of a folder; `plain` is the mask where there is one series to segment."""
    read = {file: read_slices(file) for file in files}
    groups = _grouped([header for slices in read.values() for header in slices])
    splits = _split_series(groups)
    reasons = {
        key: key[1] or ("a single slice" if len(headers) == 1 and _is_whole(headers[0]) else "")
        for key, headers in groups.items()
    }
    usable = [key for key, reason in reasons.items() if not reason and groups[key][0].sop_class]
    kinds = {kind_of_name(file) for file, slices in read.items() if slices}
    lost = [file for file, slices in read.items() if not slices and may_be_lost_slice(file, kinds)]
    for file in lost:
        logger.warning("%s: left out: it is named like a DICOM file but is not one", file)
    if UNKNOWN not in usable:
        lost += [header.file for header in groups.get(UNKNOWN, ()) if not header.sop_class]
    for key, headers in groups.items():
        code = hashlib.sha256((key[0] + key[2]).encode()).hexdigest()[:8]
        coded = plain.with_name(f"{plain.name[: -len(MASK_SUFFIX)]}_{code}{MASK_SUFFIX}")
        details: dict[str, Any] = {"files": list(dict.fromkeys(str(header.file) for header in in_slice_order(headers)))}
        doubts = [*splits.get(key, ()), *([_doubt(lost)] if lost and key in usable else ())]
        if reasons[key]:
            details["skipped"] = reasons[key]
        elif doubts:
            details["warnings"] = doubts
        if key in usable:
            details[SLICES] = (key[0], frozenset(header.sop_instance for header in headers))
        yield _Found(folder, plain if usable == [key] or len(groups) == 1 else coded, details)


def _is_whole(header: SliceHeader) -> bool:
    return bool(header.sop_class) and not header.fault


def _grouped(headers: list[SliceHeader]) -> dict[Key, list[SliceHeader]]:
    """Returns slices by their series and the reason to skip them, if any.

    A file with an incomplete header joins the series that it names, which then fails, if that series is to be
    segmented; otherwise `UNKNOWN`.
    """
    groups: dict[Key, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        if header.sop_class:
            groups[header.series, skip_reason(header), ""].append(header)
    for header in headers:
        if not header.sop_class:
            groups[(header.series, "", "") if (header.series, "", "") in groups else UNKNOWN].append(header)
    return groups


def _split_series(groups: dict[Key, list[SliceHeader]]) -> dict[Key, list[str]]:
    """Splits series that hold several volumes, in place, if every volume has its own files.

    Returns:
        A warning for each volume.
    """
    warnings = {}
    for key, headers in list(groups.items()):
        found = None if key[1] else find_volumes(headers)
        if found is None or not found.whole:
            continue
        files = [{header.file for header in slices} for slices in found.slices.values()]
        if sum(map(len, files)) > len(set().union(*files)):
            continue  # frames of one file, which `check_geometry` refuses
        del groups[key]
        for name, slices in found.slices.items():
            groups[key[0], "", name] = slices
            first = min(header.file for header in slices).name
            warnings[key[0], "", name] = [
                f"its series holds {len(files)} volumes that differ in {found.keyword}; this is the one with {first}"
            ]
    return warnings


def _doubt(lost: list[Path]) -> str:
    """Returns the warning for a series with damaged files beside it that may be its slices."""
    beside = min(lost).name if len(lost) == 1 else f"{len(lost)} files ({min(lost).name}, ...)"
    return f"{beside} beside it cannot be read as DICOM: the series may be incomplete, copy it again"
