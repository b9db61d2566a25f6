"""Spatial prior: where structures lie relative to each other, and removal of components that contradict it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from sifa.postprocessing.connected_components import Components, find_structures, keep_components

MIN_LARGEST_SHARE = 0.99  # of a structure's voxels, in its largest component, in every training subject
MIN_SUBJECTS = 2  # from which the spread of centers can be measured
MIN_COMPONENT_SHARE = 0.01  # smaller components, relative to the largest one of the structure, are ignored ...
MAX_COMPONENTS = 100  # ... and so are all but this many
MAX_DISTANCE = 3.0  # from a structure's expected position, in units of its radius

SpatialPriors = Mapping[str, Mapping[str, Any]]  # by value of the structure, see `measure_spatial_prior`


class Subject(NamedTuple):
    """The labels of a training subject."""

    components: Mapping[int, Components]  # by value, of the structures that are labeled
    voxel_volume: float  # mm^3


def measure_spatial_prior(subjects: Sequence[Subject]) -> dict[str, dict[str, Any]]:
    """Measures where structures lie relative to the mean of their centers.

    A structure has a prior when at least half of the subjects show it and it is one connected component in all of them.
    Subjects that do not show all of these structures are left out.

    Args:
        subjects: all training subjects.

    Returns:
        By value: `center`, in mm from the mean of all centers (RAS+; mean over subjects), and `radius_mm`: the radius
        of a ball of the mean volume plus the spread of the center over subjects. Empty when fewer than `MIN_SUBJECTS`
        subjects are left.
    """
    shown = [value for subject in subjects for value in subject.components]
    scattered = {value for subject in subjects for value, found in subject.components.items() if not _is_one(found)}
    single = sorted(value for value in set(shown) - scattered if 2 * shown.count(value) >= len(subjects))
    whole = [subject for subject in subjects if single and subject.components.keys() >= set(single)]
    if len(whole) < MIN_SUBJECTS:
        return {}
    centers = np.array([[_largest_center(subject.components[value]) for value in single] for subject in whole])
    centers -= centers.mean(axis=1, keepdims=True)
    volumes = [[subject.components[value].voxels.sum() * subject.voxel_volume for value in single] for subject in whole]
    middle = centers.mean(axis=0)
    radii = np.cbrt(0.75 / np.pi * np.mean(volumes, axis=0)) + centers.std(axis=0).mean(axis=1)
    return {
        str(value): {"center": [round(float(x), 1) for x in center], "radius_mm": max(0.1, round(float(radius), 1))}
        for value, center, radius in zip(single, middle, radii, strict=True)
    }


def _is_one(components: Components) -> bool:
    return bool(components.voxels.max() >= MIN_LARGEST_SHARE * components.voxels.sum())


def _largest_center(components: Components) -> np.ndarray:
    return components.centers[components.voxels.argmax()]


def remove_implausible_components(
    mask: np.ndarray, affine: np.ndarray, priors: SpatialPriors, classes: int
) -> np.ndarray:
    """Removes the components of structures with a spatial prior that contradict it; changes the mask.

    Args:
        mask: values of structures, (X, Y, Z), in any storage order.
        affine: (4, 4), from indices to mm (RAS+).
        priors: what `measure_spatial_prior` returned.
        classes: number of classes, background included.

    Returns:
        Voxels of each class that were removed, (classes,).
    """
    found = find_structures(mask, map(int, priors), affine)
    removed = np.zeros(classes, dtype=np.int64)
    for value, kept in choose_components({value: each.components for value, each in found.items()}, priors).items():
        box, components = found[value]
        removed[value] = components.voxels.sum() - components.voxels[kept].sum()
        if removed[value]:
            keep_components(mask[box], value, components, kept)
    return removed


def choose_components(found: Mapping[int, Components], priors: SpatialPriors) -> dict[int, np.ndarray]:
    """Chooses the components that lie relative to each other as structures did in training.

    Every component that is not too small proposes a position of the common center of all structures. Each proposal is
    scored by the sum over structures of the voxels of the best component, weighted by a Gaussian of its distance from
    the position that the proposal implies: standard deviation `radius_mm`, and 0 beyond `MAX_DISTANCE` times that. The
    proposal with the highest score wins. So a muscle of the pelvis that looks like the spleen is outvoted by the liver.

    The best component of each structure is kept, and the common center is estimated again from all of these, with the
    same weights. A network that sees single slices breaks an organ where a slice shows it badly, so other components
    within `radius_mm` of the expected position of their structure are kept as well.

    Args:
        found: by value, the components in a mask, one or more.
        priors: what `measure_spatial_prior` returned.

    Returns:
        By value, the numbers of the components to keep, the best one first; none where none is near its position.
    """
    if not found:
        return {}
    large = {value: _large(components) for value, components in found.items()}
    middles = {value: found[value].centers[large[value]] - priors[str(value)]["center"] for value in found}
    proposals = np.concatenate(list(middles.values()))
    near, votes = {}, {}  # (proposals, components)
    for value, components in found.items():
        distances = cdist(proposals, middles[value]) / priors[str(value)]["radius_mm"]
        near[value] = np.exp(-(distances**2) / 2) * (distances <= MAX_DISTANCE)
        votes[value] = components.voxels[large[value]] * near[value]
    best = int(np.argmax(sum(vote.max(axis=1) for vote in votes.values())))
    chosen = {value: int(vote[best].argmax()) for value, vote in votes.items() if vote[best].any()}
    weights = [near[value][best, number] for value, number in chosen.items()]
    middle = np.average([middles[value][number] for value, number in chosen.items()], axis=0, weights=weights)
    kept = {value: np.zeros(0, dtype=np.int64) for value in found}
    for value, number in chosen.items():
        distances = np.linalg.norm(middles[value] - middle, axis=1) / priors[str(value)]["radius_mm"]
        fragments = np.setdiff1d(np.flatnonzero(distances <= 1), number)
        kept[value] = large[value][[number, *fragments]]
    return kept


def _large(components: Components) -> np.ndarray:
    """Returns the numbers of the components that count, the largest first, in an order independent of storage."""
    x, y, z = np.round(components.centers, 3).T
    order = np.lexsort((z, y, x, -components.voxels))[:MAX_COMPONENTS]
    return order[components.voxels[order] >= MIN_COMPONENT_SHARE * components.voxels.max()]
