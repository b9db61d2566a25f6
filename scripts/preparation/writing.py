"""Writes a data set: `dataset.json`, `supervised.json`, and the files that are converted or copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
from sifa.data.dataset_json import NAME, read_description
from sifa.data.other_layouts import layout_of
from sifa.io.formats import files_of
from sifa.transforms.label_values import is_identity
from sifa.utils.errors import InputError
from sifa.utils.files import temporary_beside, write_json
from tqdm import tqdm

from preparation.label_maps import Classes, Key
from preparation.scans import Scan, name_of
from preparation.splits import Split
from preparation.survey import read_channel

SUPERVISED = "supervised.json"
FOLDERS = ("source_images", "source_labels", "target_images", "target_labels")  # of files that are written


@dataclass(frozen=True)
class Plan:
    """Everything that a data set is to hold."""

    name: str
    slice_plane: str
    modalities: Mapping[str, str]  # of source and target
    classes: Classes
    split: Split
    converted: Mapping[Path, Path]  # file of each label that cannot be used as it is
    copy: bool  # whether all files are copied


def require_free(output_dir: Path, folders: Iterable[Path], overwrite: bool) -> None:
    """Refuses an output folder that is among the scans or holds a data set already.

    Args:
        output_dir: the folder to write.
        folders: with scans and labels.
        overwrite: whether an earlier data set is replaced.

    Raises:
        InputError: when it cannot be used.
    """
    own = [output_dir.resolve(), *((output_dir / name).resolve() for name in FOLDERS)]
    for folder in map(Path.resolve, folders):
        if folder in (own[0], *own[0].parents) or any(place in (folder, *folder.parents) for place in own[1:]):
            raise InputError(
                f"{output_dir}: files would be written among the scans of {folder}: choose another --output_dir."
            )
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir}: it is a file: choose another --output_dir.")
    path = output_dir / NAME
    if path.is_file() and layout_of(read_description(path)):
        raise InputError(f"{path}: it belongs to another layout: choose another --output_dir.")
    _require_absent([path, output_dir / SUPERVISED], overwrite)


def _require_absent(paths: Iterable[Path], overwrite: bool) -> None:
    there = next((path for path in paths if path.exists()), None)
    if there is not None and not overwrite:
        raise InputError(f"{there}: it exists: choose another --output_dir, or replace it with --overwrite.")


def write_dataset(output_dir: Path, plan: Plan, overwrite: bool) -> list[Path]:
    """Writes the files of a data set; `dataset.json` is the last one, which marks a complete data set.

    Args:
        output_dir: the folder.
        plan: what to write.
        overwrite: whether files of an earlier data set are replaced.

    Returns:
        The descriptions that were written.

    Raises:
        InputError: when a file exists and is not to be replaced; nothing is written then.
    """
    split = plan.split
    places = {
        domain: {scan.image: _place(scan, domain, output_dir, plan) for scan in scans}
        for domain, scans in (
            ("source", [*split.source_training, *split.source_validation]),
            ("target", [*split.target_training, *split.target_validation, *split.target_test]),
        )
    }
    everything = [place for of_domain in places.values() for place in of_domain.values()]
    _require_absent([path for place in everything for path in place.written], overwrite)
    for name in (NAME, SUPERVISED):
        (output_dir / name).unlink(missing_ok=True)
    for place in tqdm(everything, desc="writing", leave=False, disable=None):
        place.write()
    descriptions = _descriptions(plan, places, output_dir)
    for name, content in descriptions.items():
        write_json(output_dir / name, content)
    return [output_dir / name for name in descriptions]


@dataclass(frozen=True)
class _Place:
    """Where the image and the label of a scan are in the data set."""

    scan: Scan
    image: Path
    label: Path | None
    label_source: Path | None  # the file that the label is copied from

    @property
    def written(self) -> list[Path]:
        """What has to be written."""
        image = [self.image] if self.image != self.scan.image else []
        return [*image, *([self.label] if self.label is not None and self.label != self.label_source else [])]

    def write(self) -> None:
        """Copies, or writes the channel of, the image, and copies the label."""
        if self.image in self.written:
            if self.scan.channel is not None:
                _write_channel(self.scan.image, self.scan.channel, self.image)
            else:
                _copy(self.scan.image, self.image)
        if self.label is not None and self.label_source is not None and self.label in self.written:
            _copy(self.label_source, self.label)


def _place(scan: Scan, domain: str, output_dir: Path, plan: Plan) -> _Place:
    image, label, source = scan.image, scan.label, scan.label
    if scan.channel is not None:
        image = output_dir / f"{domain}_images" / f"{scan.name}.nii.gz"
    elif plan.copy:
        image = _copied(scan.image, output_dir / f"{domain}_images", scan.name)
    if label is not None and label in plan.converted:
        source = plan.converted[label]
        label = output_dir / f"{domain}_labels" / f"{scan.name}.nii.gz"
    elif label is not None and plan.copy:
        label = _copied(label, output_dir / f"{domain}_labels", scan.name)
    return _Place(scan, image, label, source)


def _copied(path: Path, folder: Path, name: str) -> Path:
    """Returns where a copy of a scan or a label is; the two files of a pair keep their names, in their own folder."""
    if path.is_dir():
        return folder / name
    return (
        folder / f"{name}{path.name[len(name_of(path)) :]}" if len(files_of(path)) == 1 else folder / name / path.name
    )


def _descriptions(
    plan: Plan, places: Mapping[str, Mapping[Path, _Place]], output_dir: Path
) -> dict[str, dict[str, Any]]:
    """Returns the content of each description by its name, `dataset.json` last."""

    def cases(domain: str, scans: Sequence[Scan], labeled: bool = True) -> list[dict[str, str]]:
        listed = []
        for scan in scans:
            place = places[domain][scan.image]
            case = {"image": _reference(place.image, output_dir)}
            if labeled and place.label is not None:
                case["label"] = _reference(place.label, output_dir)
            listed.append(case)
        return listed

    split, label_maps = plan.split, _label_maps(plan.classes)
    common = {
        "slice_plane": plan.slice_plane,
        "labels": {str(index): name for index, name in enumerate(plan.classes.names)},
        **label_maps["both"],
    }
    source = {"modality": plan.modalities["source"], **label_maps["source"]}
    target = {"modality": plan.modalities["target"], **label_maps["target"]}
    measured = {"validation": cases("target", split.target_validation), "test": cases("target", split.target_test)}
    descriptions: dict[str, dict[str, Any]] = {}
    if split.supervised_training:
        descriptions[SUPERVISED] = {
            "name": f"{plan.name}, upper bound trained on labels of the target",
            **common,
            "source": {**target, "training": cases("target", split.supervised_training)},
            "target": {**target, **measured},
        }
    descriptions[NAME] = {
        "name": plan.name,
        **common,
        "source": {
            **source,
            "training": cases("source", split.source_training),
            "validation": cases("source", split.source_validation),
        },
        "target": {**target, "training": cases("target", split.target_training, labeled=False), **measured},
    }
    return descriptions


def _label_maps(classes: Classes) -> dict[str, dict[str, Any]]:
    """Returns the entries `label_map` of the file and of each domain; empty where values are classes."""
    source, target = _numbers(classes.source), _numbers(classes.target)
    if source == target:
        return {"both": _entry(source), "source": {}, "target": {}}
    return {"both": {}, "source": _entry(source), "target": _entry(target)}


def _numbers(classes: Mapping[Key, int]) -> dict[int, int]:
    """Returns the class of each value in label files; labels that name structures are converted to classes."""
    numbers = {key: index for key, index in classes.items() if isinstance(key, int)}
    named = {index: index for key, index in classes.items() if isinstance(key, str)}
    return {**numbers, **named}


def _entry(label_map: Mapping[int, int]) -> dict[str, Any]:
    if is_identity(label_map):
        return {}
    return {"label_map": {str(value): index for value, index in label_map.items()}}


def _write_channel(source: Path, channel: int, path: Path) -> None:
    voxels, affine = read_channel(source, channel)
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with temporary_beside(path) as temporary:
        nib.save(image, temporary)


def _copy(source: Path, path: Path) -> None:
    """Copies a file, a pair of files or the folder of a DICOM series."""
    if source.is_dir():
        if path.exists():
            shutil.rmtree(path)  # slices of an earlier copy
        files = {file: path / file.name for file in source.iterdir() if file.is_file() and file.name[0] != "."}
    else:
        several = files_of(source)
        files = {file: path if len(several) == 1 else path.parent / file.name for file in several}
    for file, copy in files.items():
        with temporary_beside(copy) as temporary:
            shutil.copyfile(file, temporary)


def _reference(path: Path, output_dir: Path) -> str:
    """Returns a path as the description has it: relative below the data set's folder, else absolute."""
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(output_dir))
    return path.relative_to(folder).as_posix() if folder in path.parents else path.as_posix()
