"""How structures lie to each other in training, and which of the pieces that a network finds lie so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from sifa.postprocessing.connected_components import Pieces, find_structures, keep_pieces

ONE_PIECE = 0.99  # least share of a structure, in every training subject, that its largest piece holds
FEWEST = 2  # subjects that tell how far centers spread
SPECK = 0.01  # a piece counts that is at least this share of the largest one of its structure ...
MOST = 100  # ... and one of this many
FAR = 3.0  # times its reach that a structure may lie away from its place

Places = Mapping[str, Mapping[str, Any]]  # by value of the structure, see `measure_arrangement`


class Subject(NamedTuple):
    """What the labels of a training subject mark."""

    pieces: Mapping[int, Pieces]  # by value, of the structures that it shows
    voxel_volume: float  # mm^3


def measure_arrangement(subjects: Sequence[Subject]) -> dict[str, dict[str, Any]]:
    """Measures where structures lie, each in relation to the middle of all.

    A structure has a place when at least half of the subjects show it and none in several pieces. Subjects that do not
    show all structures that have a place are left out.

    Args:
        subjects: all training subjects.

    Returns:
        By value: `center`, in mm from the mean of all centers (RAS+; the mean over subjects), and `reach`, in mm: the
        radius of a ball of the mean volume, and the spread of the center over subjects. Empty when fewer than `FEWEST`
        subjects are left.
    """
    shown = [value for subject in subjects for value in subject.pieces]
    scattered = {value for subject in subjects for value, pieces in subject.pieces.items() if not _is_one(pieces)}
    single = sorted(value for value in set(shown) - scattered if 2 * shown.count(value) >= len(subjects))
    whole = [subject for subject in subjects if single and subject.pieces.keys() >= set(single)]
    if len(whole) < FEWEST:
        return {}
    centers = np.array([[_largest_center(subject.pieces[value]) for value in single] for subject in whole])
    centers -= centers.mean(axis=1, keepdims=True)
    volumes = [[subject.pieces[value].voxels.sum() * subject.voxel_volume for value in single] for subject in whole]
    middle = centers.mean(axis=0)
    reach = np.cbrt(0.75 / np.pi * np.mean(volumes, axis=0)) + centers.std(axis=0).mean(axis=1)
    return {
        str(value): {"center": [round(float(x), 1) for x in center], "radius_mm": max(0.1, round(float(distance), 1))}
        for value, center, distance in zip(single, middle, reach, strict=True)
    }


def _is_one(pieces: Pieces) -> bool:
    return bool(pieces.voxels.max() >= ONE_PIECE * pieces.voxels.sum())


def _largest_center(pieces: Pieces) -> np.ndarray:
    return pieces.centers[pieces.voxels.argmax()]


def keep_arrangement(mask: np.ndarray, affine: np.ndarray, places: Places, classes: int) -> np.ndarray:
    """Leaves of each structure that has a place the pieces that fit the other structures; changes the mask.

    Args:
        mask: values of structures, (X, Y, Z), in any storage order.
        affine: (4, 4), from indices to mm (RAS+).
        places: what `measure_arrangement` returned.
        classes: number of classes, background included.

    Returns:
        Voxels of each class that were taken out, (classes,).
    """
    found = find_structures(mask, map(int, places), affine)
    dropped = np.zeros(classes, dtype=np.int64)
    for value, kept in choose_pieces({value: each.pieces for value, each in found.items()}, places).items():
        box, pieces = found[value]
        dropped[value] = pieces.voxels.sum() - pieces.voxels[kept].sum()
        if dropped[value]:
            keep_pieces(mask[box], value, pieces, kept)
    return dropped


def choose_pieces(found: Mapping[int, Pieces], places: Places) -> dict[int, np.ndarray]:
    """Chooses the pieces that lie to each other as structures did in training.

    Each piece, but for specks, proposes where the middle of all structures is. The proposal wins that has most voxels
    behind it, where of each structure the piece counts that has most, less the farther it is from its place: times a
    Gaussian of `reach`, and not at all beyond `FAR` times that. So a muscle of the pelvis that looks like the spleen is
    outvoted by the liver.

    These pieces are the structures, and tell together where the middle is, by the same Gaussian as weights. A network
    that sees single slices breaks an organ where a slice shows it badly: what else lies within `reach` of the place of
    its structure stays as well.

    Args:
        found: by value, the pieces in a mask, one or more.
        places: what `measure_arrangement` returned.

    Returns:
        By value, the numbers of the pieces that stay, the structure first; none where none is near its place.
    """
    if not found:
        return {}
    large = {value: _large(pieces) for value, pieces in found.items()}
    middles = {value: found[value].centers[large[value]] - places[str(value)]["center"] for value in found}
    proposals = np.concatenate(list(middles.values()))
    near, votes = {}, {}  # (proposals, pieces)
    for value, pieces in found.items():
        distances = cdist(proposals, middles[value]) / places[str(value)]["radius_mm"]
        near[value] = np.exp(-(distances**2) / 2) * (distances <= FAR)
        votes[value] = pieces.voxels[large[value]] * near[value]
    best = int(np.argmax(sum(vote.max(axis=1) for vote in votes.values())))
    chosen = {value: int(vote[best].argmax()) for value, vote in votes.items() if vote[best].any()}
    weights = [near[value][best, piece] for value, piece in chosen.items()]
    middle = np.average([middles[value][piece] for value, piece in chosen.items()], axis=0, weights=weights)
    kept = {value: np.zeros(0, dtype=np.int64) for value in found}
    for value, piece in chosen.items():
        distances = np.linalg.norm(middles[value] - middle, axis=1) / places[str(value)]["radius_mm"]
        fragments = np.setdiff1d(np.flatnonzero(distances <= 1), piece)
        kept[value] = large[value][[piece, *fragments]]
    return kept


def _large(pieces: Pieces) -> np.ndarray:
    """Returns the numbers of the pieces that count, the largest first, in an order that storage does not change."""
    x, y, z = np.round(pieces.centers, 3).T
    order = np.lexsort((z, y, x, -pieces.voxels))[:MOST]
    return order[pieces.voxels[order] >= SPECK * pieces.voxels.max()]
