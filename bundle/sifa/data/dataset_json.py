"""Reads and checks `dataset.json`, the file that describes a data set."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sifa.data.other_layouts import holds_scans, layout_of, preparation_command
from sifa.io.grids import require_same_grid
from sifa.io.scan_reader import load_label
from sifa.io.terminology import check_terms
from sifa.transforms.label_values import HIGHEST, LOWEST, is_identity
from sifa.transforms.orientation import PLANES
from sifa.utils.errors import InputError, UsageError

NAME = "dataset.json"
LISTS = (
    ("source", "training"),
    ("source", "validation"),
    ("target", "training"),
    ("target", "labeled"),
    ("target", "validation"),
    ("target", "test"),
)
WHOLE = re.compile(r"-?\d{1,5}")

Item = dict[str, str]


@dataclass
class DatasetDescription:
    """The content of a data set; paths are absolute.

    The lists hold items `{"image": path}` or `{"image": path, "label": path}`.
    """

    path: Path
    name: str
    slice_plane: str  # axial, coronal or sagittal, in the patient; acquired: each scan's own slices; empty: not chosen
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
    source_label_map: dict[int, int] = field(default_factory=dict)  # class of each value in labels; empty: the values
    target_label_map: dict[int, int] = field(default_factory=dict)

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

    @property
    def label_values(self) -> dict[int, int]:
        """Value of each class in masks: the first of the target's label map; empty where values and classes agree."""
        values = _first_values(self.target_label_map)
        return {} if is_identity(values) else values

    @property
    def lists(self) -> dict[str, list[Item]]:
        """The items of each list by its place in the file, such as `source.training`."""
        return {f"{domain}.{split}": getattr(self, f"{domain}_{split}") for domain, split in LISTS}

    def label_map_of(self, place: str) -> dict[int, int]:
        """Returns the label map of a list, by its place in the file."""
        return self.source_label_map if place.startswith("source.") else self.target_label_map


def read_dataset(
    path: str | Path, needs_target: bool = True, needs_source: bool = True, slice_plane: str | None = None
) -> DatasetDescription:
    """Reads and checks a data set.

    Args:
        path: the `dataset.json`.
        needs_target: whether training needs target images; without adaptation it needs none.
        needs_source: whether training needs labeled source images; source-free adaptation needs none, and the file
            may then lack its section.
        slice_plane: replaces that of the file; None: the file's, which may lack it until a fingerprint is computed.

    Returns:
        The description. Checked are the form of the file, that every path exists, that no subject is in two lists
        (`target.labeled` may repeat images of `target.training`, with labels), that target training images have no
        labels, that an image and its label have the same grid, and that labels hold only the listed values.

    Raises:
        InputError: at the first thing that is wrong.
    """
    if slice_plane is not None and slice_plane not in PLANES:
        raise UsageError(f"--slice_plane {slice_plane}: choose {', '.join(PLANES)}.")
    description = parse_dataset(path, needs_target, needs_source)
    description = replace(description, slice_plane=slice_plane or description.slice_plane)
    for place, items in description.lists.items():
        for number, item in enumerate(items):
            require_files(item, f"{description.path}: {place}[{number}]")
    _check_no_overlap(description)
    for place, items in description.lists.items():
        check_labels([item for item in items if "label" in item], description.label_map_of(place))
    return description


def parse_dataset(path: str | Path, needs_target: bool = True, needs_source: bool = True) -> DatasetDescription:
    """Reads a `dataset.json` and checks its form, but none of the files that it names.

    Args:
        path: the `dataset.json`.
        needs_target: whether target images are needed.
        needs_source: whether labeled source images are needed.

    Raises:
        InputError: at the first thing that is wrong.
    """
    path = Path(path)
    content = read_description(path)
    layout = layout_of(content)
    if layout:
        raise InputError(
            f"{path}: it is a {NAME} of {layout}, not of this bundle: make a data set of its folder with "
            f"'{preparation_command(path.parent, content)}', and train with --dataset_dir DATA."
        )
    labels = _read_labels(content, path)
    plane = content.get("slice_plane", "")
    if not isinstance(plane, str) or plane not in (*PLANES, ""):
        raise InputError(f"{path}: 'slice_plane' is {plane!r}: write one of {', '.join(PLANES)}.")
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
        source_label_map=_read_label_map(content, "source", labels, path),
        target_label_map=_read_label_map(content, "target", labels, path),
    )
    if needs_source and not description.source_training:
        raise InputError(f"{path}: source.training is empty: list at least one labeled source image.")
    if needs_target and not description.target_training:
        raise InputError(
            f"{path}: target.training is empty: list the unlabeled target images to adapt to, or train without "
            "adaptation (source_only.yaml)."
        )
    return description


def read_structures(path: str | Path) -> tuple[dict[int, str], dict[int, int]]:
    """Reads which structures a `dataset.json` has, and no more, so that it may be that of another program.

    Returns:
        The names of the structures by their values in masks, without the background; and the value in masks of each
        value that labels of the target may hold.

    Raises:
        InputError: when it is missing, does not name its labels, or has a wrong label map.
    """
    path = Path(path)
    content = read_description(path)
    labels = _read_labels(content, path)
    label_map = _read_label_map({"target": {}, **content}, "target", labels, path)
    values = _first_values(label_map)
    names = {values[index]: name for index, name in labels.items() if index != 0}
    return names, {value: values[index] for value, index in label_map.items()}


def require_files(item: Item, place: str) -> None:
    """Checks that the files of an item exist.

    Args:
        item: paths by entry.
        place: where the item is listed, for the message.

    Raises:
        InputError: when one is missing.
    """
    for key, file in item.items():
        if not Path(file).exists():
            raise InputError(f"{place}: the {key} {file} does not exist: correct the path.")


def read_description(path: Path) -> dict[str, Any]:
    """Returns the content of a `dataset.json`, of this layout or another one.

    Raises:
        InputError: when there is no such file or it is not a JSON object.
    """
    if path.parent.is_file():
        raise InputError(f"{path.parent}: it is a file: give the folder that holds it (--dataset_dir).")
    if not path.is_file():
        if path.name == NAME and holds_scans(path.parent):
            raise InputError(
                f"{path}: there is no such file, but the folder holds scans: make a data set of it with "
                f"'{preparation_command(path.parent)}', and train with --dataset_dir DATA."
            )
        raise InputError(f"{path}: there is no such file: give a folder that holds a {NAME} (--dataset_dir).")
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
            f"{path}: 'labels' has the values {_listed(labels)}: number them 0 (background), 1, 2, ... without gaps; "
            "values of the files that differ belong in 'label_map', such as {\"205\": 1}."
        )
    names = [str(labels[str(index)]) for index in range(len(labels))]
    if len(set(names)) < len(names):
        raise InputError(
            f"{path}: 'labels' has a name more than once: give each structure its own, such as left and right kidney."
        )
    return dict(enumerate(names))


def _read_label_map(content: Mapping[str, Any], domain: str, labels: Mapping[int, str], path: Path) -> dict[int, int]:
    """Returns the class of each value that the labels of a domain may hold: its own `label_map`, or that of all labels.

    Without either, the values are the classes.

    Args:
        content: of the `dataset.json`.
        domain: source or target.
        labels: names of the classes.
        path: the file, for messages.

    Raises:
        InputError: when a map is not an object of classes by value, moves the background, or leaves out a class.
    """
    own = content[domain].get("label_map")
    place = f"{path}: {'label_map' if own is None else f'{domain}.label_map'}"
    given = content.get("label_map") if own is None else own
    if given is None:
        return {value: value for value in labels}
    if not isinstance(given, dict) or not all(WHOLE.fullmatch(key) for key in given):
        raise InputError(f'{place} is {given!r}: write the class of each value in the labels, such as {{"205": 1}}.')
    label_map = {0: 0, **{int(value): index for value, index in given.items()}}
    for value, index in label_map.items():
        if type(index) is not int or index not in labels:
            raise InputError(f"{place} gives the value {value} the class {index!r}: choose from {_listed(labels)}.")
        if not (LOWEST if index == 0 else 1) <= value <= HIGHEST or (value == 0 and index != 0):
            raise InputError(
                f"{place} gives the value {value} the class {index}: values of structures are 1 to {HIGHEST}, and 0 is "
                "the background."
            )
    absent = [f"{index} ({name})" for index, name in labels.items() if index not in label_map.values()]
    if absent:
        raise InputError(f"{place} has no value of the class {absent[0]}: add it, or remove the class from 'labels'.")
    return label_map


def _first_values(label_map: Mapping[int, int]) -> dict[int, int]:
    """Returns the first value of each class, in the order of the classes."""
    values: dict[int, int] = {}
    for value, index in label_map.items():
        values.setdefault(index, value)
    return dict(sorted(values.items()))


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


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
        result.append({key: str(_find(path.parent, item[key])) for key in ("image", "label") if key in item})
    return result


def _find(folder: Path, name: str) -> Path:
    """Returns the absolute path of a file; backslashes of a file that was written on Windows are separators."""
    path = (folder / name).absolute()
    return path if path.exists() or "\\" not in name else (folder / name.replace("\\", "/")).absolute()


def _check_no_overlap(description: DatasetDescription) -> None:
    seen: dict[Path, str] = {}
    for place, items in description.lists.items():
        for item in items:
            image = Path(item["image"]).resolve()
            has_label_too = (seen.get(image), place) == ("target.training", "target.labeled")
            if image in seen and not has_label_too:
                raise InputError(
                    f"{description.path}: {image} is in {seen[image]} and in {place}: a subject belongs in one list."
                )
            seen[image] = place


def check_labels(items: Sequence[Mapping[str, str]], values: Collection[int]) -> None:
    """Checks that each label has its image's grid, to a tenth of a voxel, and holds only certain values.

    Args:
        items: `{"image": path, "label": path}`.
        values: the allowed values.

    Raises:
        InputError: at the first label that does not, which it names.
    """
    for item in items:
        check_label(item["label"], item["image"], values)


def check_label(path: str, image: str, values: Collection[int]) -> list[int]:
    """Checks one label; see `check_labels`.

    Args:
        path: the label.
        image: its image.
        values: the allowed values.

    Returns:
        The values that it holds.

    Raises:
        InputError: when it lies on another grid or holds another value.
    """
    require_same_grid(path, image, "label", "image")
    voxels, _ = load_label(path)
    found = [int(value) for value in np.unique(voxels)]
    unknown = [value for value in found if value not in values]
    if unknown:
        raise InputError(
            f"{path}: it holds the value {unknown[0]}, which is not among the labels {_listed(values)} of the data "
            "set: map it to one of them (label_map)."
        )
    return found


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
