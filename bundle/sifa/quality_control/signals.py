"""Signals of the quality of a mask that need no label: each from 0 to 1, higher for better masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sifa.postprocessing.connected_components import find_structures

LEAST_ML = 1e-3  # volumes are rounded to it


def soft_dice(inside: float, pixels: float, mass: float) -> float:
    """Returns the soft Dice of a mask with the probabilities that it was made of; 0 for an empty mask.

    Soft Dice Confidence (arXiv 2402.10665): 2 * inside / (pixels + mass).

    Args:
        inside: sum of the structure's probability over the pixels of its mask.
        pixels: number of pixels of the mask.
        mass: sum of the structure's probability over all pixels.
    """
    return 2 * inside / (pixels + mass) if pixels > 0 else 0.0


def count_overlap(one: np.ndarray, other: np.ndarray, classes: int) -> np.ndarray:
    """Returns how many voxels of each class are in one mask, in the other, and in both at once: (3, classes).

    Args:
        one: classes, any shape of at least one dimension.
        other: classes, the same shape.
        classes: number of classes, background included.
    """
    counts = np.zeros((3, classes), dtype=np.int64)
    for a, b in zip(one, other, strict=True):  # slab by slab, since bincount copies what it counts to int64
        for number, labels in enumerate((a, b, a[a == b])):
            counts[number] += np.bincount(labels.ravel(), minlength=classes)
    return counts


def count_along_axes(labels: np.ndarray, classes: int, axes: int = 3) -> list[np.ndarray]:
    """Returns how many voxels of each class each slab of a mask (X, Y, Z) has, (length, classes), by axis.

    Args:
        labels: classes, (X, Y, Z).
        classes: number of classes, background included.
        axes: how many, from X on.
    """
    slabs = [np.moveaxis(labels, axis, 0) for axis in range(axes)]
    return [np.array([np.bincount(slab.ravel(), minlength=classes) for slab in each]) for each in slabs]


def dice_of(counts: np.ndarray) -> np.ndarray:
    """Returns the Dice of each class by the counts of `count_overlap`, (classes,); 0 where a class is in neither."""
    found, other, both = counts
    return np.asarray(2 * both / np.maximum(found + other, 1))


def agreement(one: np.ndarray, other: np.ndarray, classes: int) -> np.ndarray:
    """Returns the Dice of two masks for each class, (classes,); 0 where a class is in neither.

    Pairwise Dice of predictions (Roy et al., NeuroImage 2019; Zenk et al., MedIA 2025).

    Args:
        one: classes, any shape.
        other: classes, the same shape.
        classes: number of classes, background included.
    """
    return dice_of(count_overlap(one, other, classes))


def volume_plausibility(volume_ml: float, smallest_ml: float, largest_ml: float) -> float:
    """Returns how well a volume fits the volumes in training: exp(-z^2 / 8), 0 for an empty mask.

    z is the distance of the logarithm of the volume from the middle of the range, in quarters of its width, since the
    range of a normal distribution over some tens of subjects spans about four standard deviations.

    Args:
        volume_ml: of the mask.
        smallest_ml: of the training subjects.
        largest_ml: likewise.
    """
    if volume_ml <= 0:
        return 0.0
    low, high = (math.log(max(size, LEAST_ML)) for size in (smallest_ml, largest_ml))
    z = (math.log(volume_ml) - (low + high) / 2) / max((high - low) / 4, 0.05)
    return math.exp(-(z**2) / 8)


def position_plausibility(
    counts: Sequence[np.ndarray], affine: np.ndarray, priors: Mapping[str, Mapping[str, Any]]
) -> dict[int, float]:
    """Returns how well each structure lies relative to the others as in training: exp(-d^2 / 2), by value.

    d is the distance of the structure's center from where the centers of all others put it, in units of its radius in
    training. It is 0 where none of the others was found.

    Args:
        counts: voxels of each class along the axes of a mask, see `count_along_axes`.
        affine: (4, 4), from indices to mm (RAS+).
        priors: by value of the structure, see `sifa.postprocessing.spatial_prior.measure_spatial_prior`.
    """
    sizes = counts[0].sum(axis=0)
    found = [value for value in map(int, priors) if sizes[value]]
    centers = np.array([np.arange(len(each)) @ each[:, found] / sizes[found] for each in counts]).T
    placed = centers @ affine[:3, :3].T + affine[:3, 3]
    common = placed - np.array([priors[str(value)]["center"] for value in found]).reshape(-1, 3)
    plausible = {}
    for number, value in enumerate(found):
        others = np.delete(common, number, axis=0)
        distance = np.linalg.norm(common[number] - others.mean(axis=0)) if len(others) else math.inf
        plausible[value] = math.exp(-((distance / priors[str(value)]["radius_mm"]) ** 2) / 2)
    return plausible


def shape_plausibility(
    labels: np.ndarray, affine: np.ndarray, priors: Mapping[str, Mapping[str, Any]]
) -> dict[int, float]:
    """Returns the share of voxels in the largest connected component of each structure, by value.

    Only of structures that are one component in all training subjects, which are those with a spatial prior.

    Args:
        labels: values of structures, (X, Y, Z).
        affine: (4, 4), from indices to mm (RAS+).
        priors: by value of the structure, see `sifa.postprocessing.spatial_prior.measure_spatial_prior`.
    """
    found = find_structures(labels, map(int, priors), affine)
    sizes = {value: structure.components.voxels for value, structure in found.items()}
    return {value: float(voxels.max() / voxels.sum()) for value, voxels in sizes.items()}
