"""Reads and checks `dataset.json`, the file that describes a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sifa.io.grids import require_same_grid
from sifa.io.scan_reader import load_label
from sifa.io.terminology import check_terms
from sifa.transforms.orientation import AXCODES
from sifa.utils.errors import InputError

Item = dict[str, str]


@dataclass
class DatasetDescription:
    """The content of a data set; paths are absolute.

    The lists hold items `{"image": path}` or `{"image": path, "label": path}`.
    """

    path: Path
    name: str
    slice_plane: str  # axial, coronal or sagittal, in the patient
    labels: dict[int, str]  # 0 is background
    source_modality: str
    target_modality: str
    source_training: list[Item]
    source_validation: list[Item] = field(default_factory=list)
    target_training: list[Item] = field(default_factory=list)
    target_labeled: list[Item] = field(default_factory=list)  # trained on with labels, where a config uses them
    target_validation: list[Item] = field(default_factory=list)
    target_test: list[Item] = field(default_factory=list)
    terminology: dict[str, dict[str, Any]] = field(default_factory=dict)  # see `sifa.io.terminology.check_terms`

    @property
    def target_images(self) -> list[Item]:
        """The images of the target that a training may use, labeled ones among them, each once and without a label."""
        known = {item["image"] for item in self.target_training}
        others = [{"image": item["image"]} for item in self.target_labeled if item["image"] not in known]
        return [*self.target_training, *others]

    @property
    def out_channels(self) -> int:
        """Number of classes, including the background."""
        return len(self.labels)


def read_dataset(path: str | Path, needs_target: bool = True, needs_source: bool = True) -> DatasetDescription:
    """Reads and checks a data set.

    Args:
        path: the `dataset.json`.
        needs_target: whether training needs target images; without adaptation it needs none.
        needs_source: whether training needs labeled source images; source-free adaptation needs none, and the file
            may then lack its section.

    Returns:
        The description. Checked are the form of the file, that every path exists, that no subject is in two lists
        (`target.labeled` may repeat images of `target.training`, with labels), that target training images have no
        labels, that an image and its label have the same grid, and that labels hold only the listed values.

    Raises:
        InputError: at the first thing that is wrong.
    """
    path = Path(path)
    content = _read_json(path)
    labels = _read_labels(content, path)
    plane = content.get("slice_plane")
    if not isinstance(plane, str) or plane not in AXCODES:
        raise InputError(f"{path}: 'slice_plane' is {plane!r}: write one of {', '.join(AXCODES)}.")
    if not needs_source and "source" not in content:
        content = {**content, "source": {"modality": ""}}
    source, target = _read_domain(content, "source", path), _read_domain(content, "target", path)
    description = DatasetDescription(
        path=path,
        name=str(content.get("name", path.parent.name)),
        slice_plane=plane,
        labels=labels,
        source_modality=source["modality"],
        target_modality=target["modality"],
        source_training=_read_items(source, "source", "training", path, labeled=True),
        source_validation=_read_items(source, "source", "validation", path, labeled=True),
        target_training=_read_items(target, "target", "training", path, labeled=False),
        target_labeled=_read_items(target, "target", "labeled", path, labeled=True),
        target_validation=_read_items(target, "target", "validation", path, labeled=True),
        target_test=_read_items(target, "target", "test", path, labeled=True),
        terminology=check_terms(content.get("terminology", {}), labels, f"{path}: 'terminology'"),
    )
    if needs_source and not description.source_training:
        raise InputError(f"{path}: source.training is empty: list at least one labeled source image.")
    if needs_target and not description.target_training:
        raise InputError(
            f"{path}: target.training is empty: list the unlabeled target images to adapt to, or train without "
            "adaptation (source_only.yaml)."
        )
    _check_no_overlap(description)
    for items in (description.source_training, description.source_validation):
        check_labels(items, labels)
    for items in (description.target_labeled, description.target_validation, description.target_test):
        check_labels(items, labels)
    return description


def read_structures(path: str | Path) -> dict[int, str]:
    """Returns the names of the structures by label value, without the background, of a `dataset.json`.

    Nothing else of it is read or checked, so that it may also be that of another program, such as nnU-Net.

    Raises:
        InputError: when it is missing or does not name its labels.
    """
    path = Path(path)
    labels = _read_labels(_read_json(path), path)
    return {value: name for value, name in labels.items() if value != 0}


def _read_json(path: Path) -> dict[str, Any]:
    if path.parent.is_file():
        raise InputError(f"{path.parent}: it is a file: give the folder that holds it (--dataset_dir).")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file: give a folder that holds a dataset.json (--dataset_dir).")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # with or without a byte order mark
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: it is not valid JSON ({error}): correct it or write it again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: the top level is a {type(content).__name__}, not an object: see the docs' example.")
    return content


def _read_labels(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    labels = content.get("labels")
    if not isinstance(labels, dict):
        raise InputError(f'{path}: \'labels\' is missing: write an object such as {{"0": "background", "1": ...}}.')
    if all(type(value) is int for value in labels.values()):  # as nnU-Net writes them: values by name
        labels = {str(value): name for name, value in labels.items()}
    if sorted(labels) != sorted(str(index) for index in range(len(labels))) or len(labels) < 2:
        raise InputError(
            f"{path}: 'labels' has the values {', '.join(labels)}: number them 0 (background), 1, 2, ... without gaps."
        )
    names = [str(labels[str(index)]) for index in range(len(labels))]
    if len(set(names)) < len(names):
        raise InputError(
            f"{path}: 'labels' has a name more than once: give each structure its own, such as left and right kidney."
        )
    return dict(enumerate(names))


def _read_domain(content: Mapping[str, Any], domain: str, path: Path) -> Mapping[str, Any]:
    section = content.get(domain)
    if not isinstance(section, dict):
        raise InputError(f"{path}: '{domain}' is missing: write an object with 'modality' and 'training'.")
    if not isinstance(section.get("modality"), str):
        raise InputError(f'{path}: {domain}.modality is missing: write the modality, such as "MR" or "CT".')
    return section


def _read_items(section: Mapping[str, Any], domain: str, split: str, path: Path, labeled: bool) -> list[Item]:
    place = f"{path}: {domain}.{split}"
    items = section.get(split, [])
    if not isinstance(items, list):
        keys = "'image' and 'label'" if labeled else "'image'"
        raise InputError(f"{place} is not a list: write a list of objects with {keys}.")
    result = []
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not isinstance(item.get("image"), str):
            raise InputError(f"{place}[{number}] has no 'image': write an object with the path of an image.")
        if labeled and not isinstance(item.get("label"), str):
            raise InputError(f"{place}[{number}] ({item['image']}) has no 'label': this list needs labeled images.")
        if not labeled and "label" in item:
            raise InputError(
                f"{place}[{number}] ({item['image']}) has a 'label': adaptation never sees target labels; remove it."
            )
        entry = {key: str(_find(path.parent, item[key])) for key in ("image", "label") if key in item}
        for key, file in entry.items():
            if not Path(file).exists():
                raise InputError(f"{place}[{number}]: the {key} {file} does not exist: correct the path.")
        result.append(entry)
    return result


def _find(folder: Path, name: str) -> Path:
    """Returns the absolute path of a file; backslashes of a file that was written on Windows are separators."""
    path = (folder / name).absolute()
    return path if path.exists() or "\\" not in name else (folder / name.replace("\\", "/")).absolute()


def _check_no_overlap(description: DatasetDescription) -> None:
    seen: dict[Path, str] = {}
    for domain, split in (
        ("source", "training"),
        ("source", "validation"),
        ("target", "training"),
        ("target", "labeled"),
        ("target", "validation"),
        ("target", "test"),
    ):
        for item in getattr(description, f"{domain}_{split}"):
            image = Path(item["image"]).resolve()
            place = f"{domain}.{split}"
            has_label_too = (seen.get(image), place) == ("target.training", "target.labeled")
            if image in seen and not has_label_too:
                raise InputError(
                    f"{description.path}: {image} is in {seen[image]} and in {place}: a subject belongs in one list."
                )
            seen[image] = place


def check_labels(items: Sequence[Mapping[str, str]], labels: Mapping[int, str]) -> None:
    """Checks that each label has its image's grid, to a tenth of a voxel, and holds only the values in `labels`.

    Args:
        items: `{"image": path, "label": path}`.
        labels: the allowed values.

    Raises:
        InputError: at the first label that does not, which it names.
    """
    for item in items:
        require_same_grid(item["label"], item["image"], "label", "image")
        values, _ = load_label(item["label"])
        unknown = [value for value in np.unique(values).tolist() if value not in labels]
        if unknown:
            raise InputError(
                f"{item['label']}: it holds the value {unknown[0]}, which is not among the labels "
                f"{', '.join(str(value) for value in labels)} of the data set: map it to one of them."
            )


def require_labels(dataset: DatasetDescription, labels: Mapping[int, str]) -> None:
    """Refuses a data set whose labels are not those of a trained model.

    Args:
        dataset: the data set.
        labels: the model's, names by value.

    Raises:
        InputError: when they differ.
    """
    if dataset.labels != labels:
        raise InputError(
            f"{dataset.path}: its labels are {dataset.labels}, the model's {dict(labels)}: renumber or rename them."
        )


def labeled_training(dataset: DatasetDescription) -> list[Item]:
    """Returns the labeled target scans that are trained on, `target.labeled`.

    Raises:
        InputError: when there are none.
    """
    if not dataset.target_labeled:
        raise InputError(
            f"{dataset.path}: target.labeled is empty: list target scans with labels there, or leave out "
            "labeled_target.yaml."
        )
    return dataset.target_labeled


def labeled_target(dataset: DatasetDescription, split: str, labels: Mapping[int, str]) -> list[Item]:
    """Returns the labeled target scans of a split, `validation` or `test`, which are used for measuring only.

    Args:
        dataset: the data set.
        split: the name of the list.
        labels: the labels of the network by value, including the background.

    Raises:
        InputError: when the split is neither of these or is empty, or when the data set has other labels.
    """
    require_labels(dataset, labels)
    lists = {"validation": dataset.target_validation, "test": dataset.target_test}
    if split not in lists:
        raise InputError(f"--split is {split!r}: choose validation or test.")
    if not lists[split]:
        raise InputError(f"{dataset.path}: target.{split} is empty: list labeled target scans to measure on.")
    return lists[split]
