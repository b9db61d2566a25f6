"""Components of structures, found slab by slab, against the whole at once."""

from __future__ import annotations

import numpy as np
import pytest
from builders import Array
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nibabel.affines import apply_affine
from scipy import ndimage
from sifa.postprocessing.connected_components import find_components, keep_components

ALL_26 = np.ones((3, 3, 3))
AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0.1, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])
VALUES = st.sampled_from([0, 1, 2, 2])


def random_mask(length: int, seed: int) -> Array:
    """Returns a mask in which structure 2 has many components, among voxels of structure 1."""
    generator = np.random.default_rng(seed)
    mask = (generator.random((length, 9, 8)) < 0.02 * (seed + 1)).astype(np.uint8) * 2
    mask[generator.random(mask.shape) < 0.1] = 1
    return mask


def assert_as_scipy_labels(mask: Array) -> None:
    """Compares the components of structure 2 with those that scipy finds in the whole mask."""
    labels, count = ndimage.label(mask == 2, ALL_26)
    found = find_components(mask, 2, AFFINE)
    centers = apply_affine(AFFINE, np.reshape(ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)), (-1, 3)))
    expected = np.column_stack([np.bincount(labels.ravel(), minlength=count + 1)[1:], centers])
    np.testing.assert_allclose(
        sorted(np.column_stack([found.voxels, found.centers]).tolist()), sorted(expected.tolist()), atol=1e-9
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("length", [1, 7, 8, 9, 33, 65, 100])
def test_components_are_found_slab_by_slab_as_in_the_whole(length: int, seed: int) -> None:
    assert_as_scipy_labels(random_mask(length, seed))


@given(mask=hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 4), st.integers(1, 4)), elements=VALUES))
@settings(max_examples=60, deadline=None)
def test_components_of_any_mask_are_those_of_scipy_and_keeping_all_of_them_changes_nothing(mask: Array) -> None:
    assert_as_scipy_labels(mask)
    components, before = find_components(mask, 2, AFFINE), mask.copy()
    keep_components(mask, 2, components, range(len(components.voxels)))
    assert np.array_equal(mask, before)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("length", [1, 8, 9, 33, 100])
def test_only_the_components_that_are_kept_stay(length: int, seed: int) -> None:
    before = random_mask(length, seed)
    components = find_components(before, 2, AFFINE)
    for kept in ([0], [1], [2, 0]):
        if max(kept) >= len(components.voxels):
            continue
        mask = before.copy()

        keep_components(mask, 2, components, kept)

        left = find_components(mask, 2, AFFINE)
        expected = np.column_stack([components.voxels, components.centers])[kept]
        np.testing.assert_allclose(
            sorted(np.column_stack([left.voxels, left.centers]).tolist()), sorted(expected.tolist())
        )
        assert np.array_equal(mask == 1, before == 1)


def test_all_components_can_be_removed() -> None:
    mask = random_mask(33, 3)
    others = mask == 1

    keep_components(mask, 2, find_components(mask, 2, AFFINE), [])

    assert np.array_equal(mask, others.astype(np.uint8))


def test_a_component_that_winds_through_all_slabs_is_one() -> None:
    mask = np.zeros((100, 40, 5), dtype=np.uint8)
    for column in range(0, 40, 4):
        mask[:, column] = 1
        mask[99 if column % 8 == 0 else 0, column : column + 5] = 1
    winding = mask.copy()

    components = find_components(mask, 1, AFFINE)
    keep_components(mask, 1, components, [0])

    assert components.voxels.tolist() == [int(winding.sum())]
    assert np.array_equal(mask, winding)


def test_an_absent_structure_has_no_components() -> None:
    components = find_components(np.zeros((20, 3, 4), np.uint8), 1, AFFINE)

    assert (components.voxels.shape, components.centers.shape, components.numbers.shape) == ((0,), (0, 3), (0,))
