"""Writes a data set folder; shared by the scripts that convert a public download.

They write the same folder, for a labeled MR source and a CT target:

```
dataset.json         the adaptation task: labels for the source and for the target's test subjects only
supervised.json      the upper bound: the same target subjects, trained on with their labels
mr_images/           source images
mr_labels/           source labels
ct_images/           target images, training and test
ct_test_labels/      labels of the target's test subjects
ct_training_labels/  labels of the target's training subjects, listed in supervised.json only
```

An image and its label have the same file name, `<subject>.nii.gz`.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from preparation.splits import draw_subjects
from sifa.io.nifti_files import load_nifti
from sifa.utils.errors import InputError
from sifa.utils.files import temporary_beside, write_json

MR_IMAGES = "mr_images"
MR_LABELS = "mr_labels"
CT_IMAGES = "ct_images"
CT_TEST_LABELS = "ct_test_labels"
CT_TRAINING_LABELS = "ct_training_labels"

GRID_TOLERANCE = 0.1  # voxels: how far a label's voxel may lie from the image's voxel of the same index


@dataclass(frozen=True)
class LabeledVolume:
    """One subject of a download: the paths of its NIfTI image and of its NIfTI label."""

    image: Path
    label: Path


def require_folder(folder: Path, option: str, expected: str) -> None:
    """Checks that a folder given on the command line exists.

    Args:
        folder: the folder.
        option: the command-line option that named it, such as `--mr`.
        expected: what the folder should hold, for the error message.

    Raises:
        InputError: if it is missing or is a file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: point {option} at {expected}.")


def open_output_dir(output_dir: Path, overwrite: bool) -> None:
    """Creates the output folder and removes the descriptions of an earlier run, which may not match the new files.

    Args:
        output_dir: the folder to write to.
        overwrite: whether it may hold files already; those of the same name are replaced, others stay.

    Raises:
        InputError: if it is a file, or is not empty and `overwrite` is false.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir} is a file: point --output_dir at a new or empty folder.")
    if output_dir.is_dir() and any(output_dir.iterdir()) and not overwrite:
        raise InputError(
            f"{output_dir} is not empty: point --output_dir at a new or empty folder, "
            "or pass --overwrite to replace files of the same name."
        )
    output_dir.mkdir(parents=True, exist_ok=True)
    for name in ("dataset.json", "supervised.json"):
        (output_dir / name).unlink(missing_ok=True)


def split_subjects(subjects: Sequence[str], held_out_fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """Splits subjects at random, the same way for the same subjects, fraction and seed.

    Args:
        subjects: subject names, in any order.
        held_out_fraction: share of the subjects to hold out, between 0 and 1, both excluded.
        seed: seed of the random choice.

    Returns:
        The training and the held-out subjects, both sorted, disjoint and neither empty.

    Raises:
        InputError: if there are fewer than two subjects, the fraction is out of range or the seed is not an integer.
    """
    if not isinstance(held_out_fraction, float) or not 0 < held_out_fraction < 1:
        raise InputError(f"The held-out fraction is {held_out_fraction!r}: give a number between 0 and 1, such as 0.2.")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"The seed is {seed!r}: give a whole number, such as 0.")
    if len(subjects) < 2:
        raise InputError(f"Only {len(subjects)} subject found ({', '.join(subjects)}): a split needs at least two.")
    held_out_count = min(max(round(len(subjects) * held_out_fraction), 1), len(subjects) - 1)
    held_out, others = draw_subjects(subjects, held_out_count, seed)
    return others, held_out


def remap_labels(
    labels: npt.NDArray[Any], mapping: Mapping[int, int], path: Path
) -> tuple[npt.NDArray[np.uint8], dict[int, int]]:
    """Replaces every label value by its class index.

    Args:
        labels: label values as stored, of any shape.
        mapping: class index, 0 to 255, for every value that may occur, background included.
        path: the file the labels come from, for the error message.

    Returns:
        The class indices, uint8, of the same shape; and how many voxels held each stored value.

    Raises:
        InputError: if a value occurs that `mapping` does not name.
    """
    values, counts = np.unique(labels, return_counts=True)
    unknown = [f"{value:g}" for value in values.tolist() if value not in mapping]
    if unknown:
        raise InputError(
            f"{path} holds the unknown label value {', '.join(unknown[:5])}: download the file again, or correct those "
            f"voxels to one of {_as_ranges(mapping)}."
        )
    classes = np.zeros(labels.shape, dtype=np.uint8)
    for value in values.tolist():
        classes[labels == value] = mapping[value]
    return classes, {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def _as_ranges(values: Mapping[int, int]) -> str:
    """Returns integers as text with neighbors joined: `0, 55-70, 110-135`."""
    ranges: list[list[int]] = []
    for value in sorted(values):
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1][1] = value
        else:
            ranges.append([value, value])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)


def pair_volumes(images: Mapping[str, Path], labels: Mapping[str, Path]) -> dict[str, LabeledVolume]:
    """Pairs images with labels and checks from their headers that they belong together.

    Args:
        images: NIfTI images by subject.
        labels: NIfTI labels by subject.

    Returns:
        The volumes by subject, in the order of the subjects.

    Raises:
        InputError: if an image has no label or a label no image, or if a label is not on the grid of its image.
    """
    for subject in sorted(images.keys() ^ labels.keys()):
        path, missing = (images[subject], "label") if subject in images else (labels[subject], "image")
        raise InputError(f"{path} has no {missing}: download the missing file, or move this one away.")
    for subject in sorted(images):
        check_same_grid(images[subject], labels[subject])
    return {subject: LabeledVolume(images[subject], labels[subject]) for subject in sorted(images)}


def check_same_grid(image_path: Path, label_path: Path) -> None:
    """Checks from the two headers that a label lies on the voxels of its image.

    Args:
        image_path: NIfTI image.
        label_path: NIfTI label.

    Raises:
        InputError: if the shapes differ, or if the affines put a corner more than a tenth of a voxel apart.
    """
    image, label = load_nifti(image_path), load_nifti(label_path)
    assert image.affine is not None  # only images created in memory can lack one
    assert label.affine is not None
    if image.shape != label.shape:
        raise InputError(
            f"{label_path} has the shape {label.shape} but its image {image_path} has {image.shape}: "
            "download both again, or resample the label to the image's grid."
        )
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(image.shape) - 1)  # 8 x 3, voxel indices
    millimeters = nib.affines.apply_affine(image.affine, corners) - nib.affines.apply_affine(label.affine, corners)
    distance = float(np.linalg.norm(millimeters, axis=1).max())
    if distance > GRID_TOLERANCE * nib.affines.voxel_sizes(image.affine).min():
        raise InputError(
            f"{label_path} and its image {image_path} have affines that lie {distance:.2f} mm apart: "
            "download both again, or resample the label to the image's grid."
        )


def write_nifti(image: nib.Nifti1Image, path: Path) -> None:
    """Writes a NIfTI file, whole or not at all."""
    with temporary_beside(path) as temporary:
        nib.save(image, temporary)


def link_or_copy(source: Path, destination: Path) -> None:
    """Creates a hard link to a file, or a copy where hard links are not possible."""
    with temporary_beside(destination) as temporary:
        try:
            os.link(source.resolve(), temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def write_volume(
    volume: LabeledVolume, image_path: Path, label_path: Path, mapping: Mapping[int, int]
) -> dict[int, int]:
    """Links or copies an image, and writes its label remapped and with exactly the affine of the image.

    Args:
        volume: the files of the download, on one grid as `check_same_grid` understands it.
        image_path: NIfTI image to write.
        label_path: NIfTI label to write, uint8.
        mapping: class index for every label value that may occur, background included.

    Returns:
        How many voxels held each stored label value.

    Raises:
        InputError: if a file cannot be read, or if a label value occurs that `mapping` does not name.
    """
    try:
        values = np.asanyarray(load_nifti(volume.label).dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{volume.label} is damaged ({error}): replace the file.") from error
    classes, counts = remap_labels(values, mapping, volume.label)
    header = load_nifti(volume.image).header.copy()
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0  # the image's display window
    write_nifti(nib.Nifti1Image(classes, None, header), label_path)
    link_or_copy(volume.image, image_path)
    return counts


def write_descriptions(
    output_dir: Path,
    name: str,
    slice_plane: str,
    labels: Sequence[str],
    mr_split: tuple[list[str], list[str]],
    ct_split: tuple[list[str], list[str]],
) -> None:
    """Writes `supervised.json`, and `dataset.json` last, which marks a complete folder.

    Args:
        output_dir: the data set folder, laid out as this module says.
        name: name of the data set.
        slice_plane: `axial`, `coronal` or `sagittal`.
        labels: class names in the order of their indices, background first.
        mr_split: training and validation subjects of the source.
        ct_split: training and test subjects of the target.
    """
    common = {"slice_plane": slice_plane, "labels": {str(index): label for index, label in enumerate(labels)}}
    mr_training, mr_validation = mr_split
    ct_training, ct_test = ct_split
    target_test = _cases(ct_test, CT_IMAGES, CT_TEST_LABELS)
    supervised = {
        "name": f"{name}, upper bound trained on labeled CT",
        **common,
        "source": {"modality": "CT", "training": _cases(ct_training, CT_IMAGES, CT_TRAINING_LABELS)},
        "target": {"modality": "CT", "test": target_test},
    }
    dataset = {
        "name": name,
        **common,
        "source": {
            "modality": "MR",
            "training": _cases(mr_training, MR_IMAGES, MR_LABELS),
            "validation": _cases(mr_validation, MR_IMAGES, MR_LABELS),
        },
        "target": {
            "modality": "CT",
            "training": [{"image": f"{CT_IMAGES}/{subject}.nii.gz"} for subject in ct_training],
            "test": target_test,
        },
    }
    write_json(output_dir / "supervised.json", supervised)
    write_json(output_dir / "dataset.json", dataset)


def _cases(subjects: Sequence[str], images: str, labels: str) -> list[dict[str, str]]:
    """Returns the labeled cases of a list, paths relative to the data set folder."""
    return [{"image": f"{images}/{subject}.nii.gz", "label": f"{labels}/{subject}.nii.gz"} for subject in subjects]
