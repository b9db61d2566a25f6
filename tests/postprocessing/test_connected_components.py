"""Components of structures, found slab by slab, against the whole at once."""

from __future__ import annotations

import numpy as np
import pytest
from builders import Array
from nibabel.affines import apply_affine
from scipy import ndimage
from sifa.postprocessing.connected_components import find_components, keep_components

ALL_26 = np.ones((3, 3, 3))
AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0.1, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])


def random_mask(length: int, seed: int) -> Array:
    """Returns a mask in which structure 2 comes in many pieces, among voxels of structure 1."""
    generator = np.random.default_rng(seed)
    mask = (generator.random((length, 9, 8)) < 0.02 * (seed + 1)).astype(np.uint8) * 2
    mask[generator.random(mask.shape) < 0.1] = 1
    return mask


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("length", [1, 7, 8, 9, 33, 65, 100])
def test_pieces_are_found_slab_by_slab_as_in_the_whole(length: int, seed: int) -> None:
    mask = random_mask(length, seed)
    labels, count = ndimage.label(mask == 2, ALL_26)

    found = find_components(mask, 2, AFFINE)

    centers = apply_affine(AFFINE, np.reshape(ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)), (-1, 3)))
    expected = np.column_stack([np.bincount(labels.ravel(), minlength=count + 1)[1:], centers])
    np.testing.assert_allclose(
        sorted(np.column_stack([found.voxels, found.centers]).tolist()), sorted(expected.tolist()), atol=1e-9
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("length", [1, 8, 9, 33, 100])
def test_only_the_pieces_that_are_kept_stay(length: int, seed: int) -> None:
    before = random_mask(length, seed)
    pieces = find_components(before, 2, AFFINE)
    for kept in ([0], [1], [2, 0]):
        if max(kept) >= len(pieces.voxels):
            continue
        mask = before.copy()

        keep_components(mask, 2, pieces, kept)

        left = find_components(mask, 2, AFFINE)
        expected = np.column_stack([pieces.voxels, pieces.centers])[kept]
        np.testing.assert_allclose(
            sorted(np.column_stack([left.voxels, left.centers]).tolist()), sorted(expected.tolist())
        )
        assert np.array_equal(mask == 1, before == 1)


def test_all_pieces_can_go() -> None:
    mask = random_mask(33, 3)
    others = mask == 1

    keep_components(mask, 2, find_components(mask, 2, AFFINE), [])

    assert np.array_equal(mask, others.astype(np.uint8))


def test_a_piece_that_winds_through_all_slabs_is_one() -> None:
    mask = np.zeros((100, 40, 5), dtype=np.uint8)
    for column in range(0, 40, 4):
        mask[:, column] = 1
        mask[99 if column % 8 == 0 else 0, column : column + 5] = 1
    winding = mask.copy()

    pieces = find_components(mask, 1, AFFINE)
    keep_components(mask, 1, pieces, [0])

    assert pieces.voxels.tolist() == [int(winding.sum())]
    assert np.array_equal(mask, winding)


def test_a_structure_that_is_not_there_has_no_pieces() -> None:
    pieces = find_components(np.zeros((20, 3, 4), np.uint8), 1, AFFINE)

    assert (pieces.voxels.shape, pieces.centers.shape, pieces.numbers.shape) == ((0,), (0, 3), (0,))
