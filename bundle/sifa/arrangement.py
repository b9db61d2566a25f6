"""How structures lie to each other in training, and which of the pieces that a network finds lie so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.distance import cdist

from sifa.pieces import Pieces, find_pieces, keep_piece

ONE_PIECE = 0.99  # least share of a structure, in every training subject, that its largest piece holds
SPECK = 0.01  # a piece counts that is at least this share of the largest one of its structure
FAR = 3.0  # times its reach that a structure may lie away from its place

Places = Mapping[str, Mapping[str, Any]]  # by value of the structure, see `measure_arrangement`


class Subject(NamedTuple):
    """What the labels of a training subject mark."""

    pieces: Mapping[int, Pieces]  # by value, of the structures that it shows
    voxel_volume: float  # mm^3


def measure_arrangement(subjects: Sequence[Subject]) -> dict[str, dict[str, Any]]:
    """Measures where structures lie, each in relation to the middle of all.

    Returns:
        By value, for each structure that is one piece in every subject: `center`, in mm from the mean of all centers
        (RAS+; the mean over subjects), and `reach`, in mm: the radius of a ball of its mean volume and the spread of
        its center over subjects. Subjects that do not show all of them are left out; empty when none is left.
    """
    scattered = {value for subject in subjects for value, pieces in subject.pieces.items() if not _is_one(pieces)}
    single = sorted({value for subject in subjects for value in subject.pieces} - scattered)
    whole = [subject for subject in subjects if single and subject.pieces.keys() >= set(single)]
    if not whole:
        return {}
    centers = np.array([[_largest_center(subject.pieces[value]) for value in single] for subject in whole])
    centers -= centers.mean(axis=1, keepdims=True)
    volumes = [[subject.pieces[value].voxels.sum() * subject.voxel_volume for value in single] for subject in whole]
    middle = centers.mean(axis=0)
    reach = np.cbrt(0.75 / np.pi * np.mean(volumes, axis=0)) + centers.std(axis=0).mean(axis=1)
    return {
        str(value): {"center": [round(float(x), 1) for x in center], "reach": round(float(distance), 1)}
        for value, center, distance in zip(single, middle, reach, strict=True)
    }


def _is_one(pieces: Pieces) -> bool:
    return bool(pieces.voxels.max() >= ONE_PIECE * pieces.voxels.sum())


def _largest_center(pieces: Pieces) -> np.ndarray:
    return pieces.centers[pieces.voxels.argmax()]


def keep_arrangement(mask: np.ndarray, affine: np.ndarray, places: Places, classes: int) -> np.ndarray:
    """Leaves of each structure that has a place the one piece that fits the others, or nothing; changes the mask.

    Args:
        mask: values of structures, (X, Y, Z), in any storage order.
        affine: from indices to mm (RAS+).
        places: what `measure_arrangement` returned.
        classes: number of classes, background included.

    Returns:
        Voxels that were taken out, of each class.
    """
    boxes = ndimage.find_objects(mask, max_label=classes - 1)
    parts = {value: boxes[value - 1] for value in map(int, places) if boxes[value - 1] is not None}
    found = {value: find_pieces(mask[part], value, _moved(affine, part)) for value, part in parts.items()}
    dropped = np.zeros(classes, dtype=np.int64)
    for value, kept in choose_pieces(found, places).items():
        pieces = found[value]
        dropped[value] = pieces.voxels.sum() - (0 if kept is None else pieces.voxels[kept])
        if dropped[value]:
            keep_piece(mask[parts[value]], value, pieces, kept)
    return dropped


def _moved(affine: np.ndarray, part: Sequence[slice]) -> np.ndarray:
    """Returns the affine of a part of a volume."""
    moved = affine.copy()
    moved[:3, 3] = apply_affine(affine, [side.start for side in part])
    return moved


def choose_pieces(found: Mapping[int, Pieces], places: Places) -> dict[int, int | None]:
    """Chooses the pieces that lie to each other as structures did in training.

    Each piece proposes where the middle of all structures is. The proposal wins that has most voxels behind it, where
    of each structure the piece counts that has most, less the farther it is from its place: times a Gaussian of
    `reach`. So a muscle of the pelvis that looks like the spleen is outvoted by the liver.

    Args:
        found: by value, the pieces in a mask.
        places: what `measure_arrangement` returned.

    Returns:
        By value, the number of the piece; None where none lies within `FAR` times the reach.
    """
    if not found:
        return {}
    voxels, middles = {}, {}
    for value, pieces in found.items():
        voxels[value] = np.where(pieces.voxels >= SPECK * pieces.voxels.max(), pieces.voxels, 0)
        middles[value] = pieces.centers - places[str(value)]["center"]
    proposals = np.concatenate([middles[value][voxels[value] > 0] for value in found])
    distances = {
        value: cdist(proposals, middles[value]) / places[str(value)]["reach"] for value in found
    }  # (proposals, pieces)
    votes = {value: voxels[value] * np.exp(-(distances[value] ** 2) / 2) for value in found}
    best = int(np.argmax(sum(votes[value].max(axis=1) for value in found)))
    chosen = {value: int(votes[value][best].argmax()) for value in found}
    return {value: piece if distances[value][best, piece] <= FAR else None for value, piece in chosen.items()}
