"""The pieces of a structure in a mask (26-connected), found a few slices at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SLICES = 8  # labeled at once: int32, which of a whole scan is as large as the scan


class Pieces(NamedTuple):
    """Of one structure."""

    voxels: np.ndarray  # (P,) int64
    centers: np.ndarray  # (P, 3): centers of mass in mm (RAS+)
    numbers: np.ndarray  # (N,): the piece that each part of a slab belongs to, parts counted slab by slab


class Structure(NamedTuple):
    """Where a structure lies in a mask, and its pieces."""

    box: tuple[slice, ...]
    pieces: Pieces  # their centers are those in the mask


def find_structures(mask: np.ndarray, values: Iterable[int], affine: np.ndarray) -> dict[int, Structure]:
    """Finds the pieces of the structures that a mask shows.

    Args:
        mask: values of structures, (X, Y, Z), any integers.
        values: of the structures to look for.
        affine: (4, 4), from indices to mm.

    Returns:
        By value; what the mask does not show is not in it.
    """
    boxes = dict(enumerate(ndimage.find_objects(mask), start=1))
    found = {}
    for value in values:
        if (box := boxes.get(value)) is not None:
            moved = affine.copy()
            moved[:3, 3] = apply_affine(affine, [side.start for side in box])
            found[value] = Structure(box, find_pieces(mask[box], value, moved))
    return found


def find_pieces(mask: np.ndarray, value: int, affine: np.ndarray) -> Pieces:
    """Finds the pieces of a structure.

    Neighboring slabs share a slice. A part of one slab and a part of the next that have a voxel of it in common are
    one, so pieces are the connected components of the graph in which these are joined.

    Args:
        mask: values of structures, (X, Y, Z).
        value: of the structure.
        affine: (4, 4), from indices to mm.
    """
    voxels: list[np.ndarray] = [np.zeros(0)]
    sums = [np.zeros((3, 0))]
    joined = [np.zeros((2, 0), dtype=np.int64)]
    shared = np.zeros(mask.shape[1:], dtype=np.int64)
    parts = 0
    for start in range(0, len(mask), SLICES):
        labels, count = _label(mask, value, start)
        if start:
            same = labels[0] > 0
            joined.append(np.unique(np.stack([shared[same] - 1, labels[0][same] + parts - 1]), axis=1))
            labels = labels[1:]
        where = np.nonzero(labels)
        part = labels[where] - 1
        voxels.append(np.bincount(part, minlength=count))
        offsets = (start, 0, 0)
        sums.append(np.stack([np.bincount(part, axis + at, count) for axis, at in zip(where, offsets, strict=True)]))
        shared = labels[-1].astype(np.int64) + parts
        parts += count
    edges = np.concatenate(joined, axis=1)
    graph = coo_array((np.ones(edges.shape[1]), (edges[0], edges[1])), shape=(parts, parts))
    pieces, numbers = connected_components(graph, directed=False) if parts else (0, np.zeros(0, dtype=np.int64))
    sizes = np.bincount(numbers, np.concatenate(voxels), pieces)
    centers = [np.bincount(numbers, axis, pieces) / sizes for axis in np.concatenate(sums, axis=1)]
    return Pieces(sizes.astype(np.int64), apply_affine(affine, np.stack(centers, axis=1)), numbers)


def keep_pieces(mask: np.ndarray, value: int, pieces: Pieces, kept: Sequence[int] | np.ndarray) -> None:
    """Makes all pieces of a structure but some background, in place.

    Args:
        mask: the mask that the pieces were found in, (X, Y, Z).
        value: of the structure.
        pieces: what `find_pieces` returned.
        kept: numbers of the pieces that stay.
    """
    part = len(pieces.numbers)
    for start in reversed(range(0, len(mask), SLICES)):  # so that a shared slice is still as it was
        labels, count = _label(mask, value, start)
        part -= count
        stays = np.concatenate([[True], np.isin(pieces.numbers[part : part + count], kept)])
        mask[start : start + SLICES][~stays[labels[1 if start else 0 :]]] = 0


def _label(mask: np.ndarray, value: int, start: int) -> tuple[np.ndarray, int]:
    """Labels the parts of a structure in a slab and, but for the first, in the slice before it."""
    return ndimage.label(mask[max(0, start - 1) : start + SLICES] == value, np.ones((3, 3, 3)))
