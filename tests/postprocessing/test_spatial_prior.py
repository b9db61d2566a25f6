"""The spatial prior: measured in training labels, and held against masks with components elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from builders import ALL_AXCODES, Array, diagonal_affine, stored_as
from sifa.postprocessing.connected_components import Components, find_components
from sifa.postprocessing.spatial_prior import (
    MAX_COMPONENTS,
    MAX_DISTANCE,
    Subject,
    choose_components,
    measure_spatial_prior,
    remove_implausible_components,
)

SPACING = (2.0, 1.0, 3.0)
AFFINE = diagonal_affine(SPACING)
ORGANS = {1: (10, 20, 20), 2: (5, 22, 10), 3: (25, 22, 11)}  # where boxes begin, in voxels
SIZES = {1: (12, 12, 6), 2: (4, 8, 4), 3: (4, 8, 4)}


def body(move: Sequence[int] = (0, 0, 0), extra: Mapping[int, Sequence[Sequence[int]]] | None = None) -> Array:
    """Returns a mask of one box for each structure, moved together, and of further boxes of a size."""
    mask = np.zeros((40, 50, 60), np.uint8)
    for value, corner in ORGANS.items():
        for first in (np.add(corner, move), *(extra or {}).get(value, ())):
            mask[tuple(slice(a, a + size) for a, size in zip(first, SIZES[value], strict=True))] = value
    return mask


def subject_of(mask: Array, affine: Array = AFFINE) -> Subject:
    components = {value: find_components(mask, value, affine) for value in (1, 2, 3) if (mask == value).any()}
    return Subject(components, float(abs(np.linalg.det(affine[:3, :3]))))


def component(voxels: int, *center: float) -> Components:
    return components((voxels, *center))


def components(*each: Sequence[float]) -> Components:
    """Returns components of a number of voxels and a center (x, y, z) in mm each."""
    return Components(np.array(each)[:, 0].astype(int), np.array(each, dtype=float)[:, 1:], np.arange(len(each)))


def kept(found: Mapping[int, Components]) -> dict[int, list[int]]:
    return {value: numbers.tolist() for value, numbers in choose_components(found, PRIORS).items()}


PRIORS = {"1": {"center": [0.0, 0.0, 0.0], "radius_mm": 50.0}, "2": {"center": [100.0, 0.0, 0.0], "radius_mm": 20.0}}


def test_centers_are_relative_to_the_mean_of_all_centers_in_mm_however_labels_are_stored() -> None:
    centers = np.array([(np.add(ORGANS[v], (np.array(SIZES[v]) - 1) / 2)) * SPACING for v in (1, 2, 3)])
    expected = centers - centers.mean(axis=0)
    for axcodes in ALL_AXCODES:
        mask, affine = stored_as(body(), AFFINE, axcodes)

        found = measure_spatial_prior([subject_of(mask, affine)] * 2)

        assert list(found) == ["1", "2", "3"]
        np.testing.assert_allclose([entry["center"] for entry in found.values()], expected, atol=0.051)


def test_the_radius_is_that_of_a_ball_of_the_volume_plus_the_spread_of_centers() -> None:
    alone = measure_spatial_prior([subject_of(body())] * 2)
    assert alone["2"]["radius_mm"] == pytest.approx((3 * 4 * 8 * 4 * 6.0 / (4 * np.pi)) ** (1 / 3), abs=0.051)

    def at(x: float) -> Subject:
        return Subject({1: component(1000, -x / 2, 0, 0), 2: component(1000, x / 2, 0, 0)}, 1.0)

    radius = (3 * 1000 / (4 * np.pi)) ** (1 / 3)
    found = measure_spatial_prior([at(100), at(112)])  # centers at 50 and 56: 3 mm along one of three axes
    assert found["2"] == {"center": [53.0, 0.0, 0.0], "radius_mm": round(radius + 1, 1)}


def test_a_structure_of_several_components_in_training_has_no_prior() -> None:
    subjects = [subject_of(body()), subject_of(body(extra={2: [(30, 2, 40)]}))]

    assert list(measure_spatial_prior(subjects)) == ["1", "3"]


@pytest.mark.parametrize(("further", "placed"), [(8, ["1", "2", "3"]), (9, ["2", "3"])])
def test_up_to_a_hundredth_of_the_voxels_may_lie_in_further_components(further: int, placed: list[str]) -> None:
    mask = body()
    mask[38, 48, 10 : 10 + further] = 1  # beside 864 voxels

    assert list(measure_spatial_prior([subject_of(mask), subject_of(body())])) == placed


def test_subjects_that_lack_a_structure_do_not_shift_the_centers() -> None:
    complete = subject_of(body())
    without_3 = subject_of(np.where(body() == 3, 0, body()))

    assert measure_spatial_prior([complete, complete, without_3]) == measure_spatial_prior([complete, complete])


def test_a_structure_that_few_subjects_show_has_no_prior_and_leaves_the_others_theirs() -> None:
    with_3, without_3 = subject_of(body()), subject_of(np.where(body() == 3, 0, body()))

    assert list(measure_spatial_prior([with_3, without_3, without_3])) == ["1", "2"]
    assert list(measure_spatial_prior([with_3, with_3, without_3, without_3])) == ["1", "2", "3"]


def test_a_single_subject_gives_no_prior() -> None:
    for few in ([], [Subject({}, 1.0)] * 3, [subject_of(body())]):
        assert measure_spatial_prior(few) == {}


@pytest.mark.parametrize("axcodes", ALL_AXCODES)
def test_components_elsewhere_are_removed_and_the_rest_is_kept_wherever_the_body_lies(axcodes: str) -> None:
    priors = measure_spatial_prior([subject_of(body())] * 2)
    wrong = {2: [(34, 2, 50)], 3: [(2, 40, 52), (34, 40, 2)]}
    for move in ((0, 0, 0), (3, -10, 9)):
        clean, affine = stored_as(body(move), AFFINE, axcodes)
        mask, _ = stored_as(body(move, wrong), AFFINE, axcodes)
        mask = mask.copy()

        dropped = remove_implausible_components(mask, affine, priors, 4)

        assert np.array_equal(mask, clean)
        assert dropped.tolist() == [0, 0, 128, 256]


def test_the_larger_component_is_removed_when_it_contradicts_the_other_structures() -> None:
    priors = measure_spatial_prior([subject_of(body())] * 2)
    mask = body()
    mask[mask == 2] = 0
    mask[6:8, 24:28, 11:13] = 2  # what is found of structure 2: 16 voxels
    expected = mask.copy()
    mask[30:39, 2:12, 50:58] = 2  # and 720 elsewhere

    assert remove_implausible_components(mask, AFFINE, priors, 4)[2] == 720
    assert np.array_equal(mask, expected)


def test_a_structure_alone_keeps_its_largest_component() -> None:
    priors = measure_spatial_prior([Subject({1: subject_of(body()).components[1]}, 6.0)] * 2)
    mask = np.zeros((40, 50, 60), np.uint8)
    mask[1:5, 1:5, 1:5] = 1
    mask[20:25, 20:25, 20:25] = 1

    assert remove_implausible_components(mask, AFFINE, priors, 2).tolist() == [0, 64]
    assert mask[20:25, 20:25, 20:25].all()


def test_a_structure_found_only_far_from_its_position_is_removed() -> None:
    near, far = (100 + 20 * MAX_DISTANCE * share for share in (0.99, 1.01))

    assert kept({1: component(9000, 0, 0, 0), 2: component(50, near, 0, 0)}) == {1: [0], 2: [0]}
    assert kept({1: component(9000, 0, 0, 0), 2: component(50, far, 0, 0)}) == {1: [0], 2: []}


def test_a_large_component_too_far_away_does_not_displace_a_smaller_one_nearby() -> None:
    found = {1: component(10**6, 0, 0, 0), 2: components((10**4, 100 + 3.2 * 20, 0, 0), (200, 100 + 2.6 * 20, 0, 0))}

    assert kept(found) == {1: [0], 2: [1]}


@pytest.mark.parametrize(("size", "stays"), [(99, []), (100, [0])])
def test_components_below_a_hundredth_of_the_largest_are_removed_even_at_the_expected_position(
    size: int, stays: list[int]
) -> None:
    found = {1: component(10**6, 0, 0, 0), 2: components((size, 100, 0, 0), (10**4, 900, 0, 0))}

    assert kept(found) == {1: [0], 2: stays}


def test_the_best_component_of_a_structure_votes_and_not_the_sum_of_many() -> None:
    """Ten components of 2 together are larger than the one at its position, but none of them is."""
    wrong = [(300, 100 + 500 + 4 * i, 0, 0) for i in range(10)]
    found = {1: components((900, 0, 0, 0), (1000, 500, 0, 0)), 2: components((1000, 100, 0, 0), *wrong)}

    assert kept(found) == {1: [0], 2: [0]}


@pytest.mark.parametrize(("size", "first"), [(160, 0), (170, 1)])
def test_a_component_one_radius_away_is_weighted_by_a_gaussian(size: int, first: int) -> None:
    """E ** 0.5 is 1.65: 100 voxels at the expected position weigh as much as 165 that are one radius away."""
    found = {1: component(10**6, 0, 0, 0), 2: components((100, 100, 0, 0), (size, 120, 0, 0))}

    assert kept(found)[2][0] == first


def test_fragments_within_the_radius_of_the_position_are_kept_beside_the_structure() -> None:
    """Structures 1 and 2 are 108 mm apart and not 100; 2, 0.4 of its radius off, weighs a little less than 1."""
    weight = np.exp(-(0.4**2) / 2)
    place = 100 + 8 * weight / (1 + weight)
    fragments = [(400, place + 19.9), (300, place - 19.9), (200, place + 20.1), (150, place - 20.1)]
    found = {
        1: component(10**6, 0, 0, 0),
        2: components((1000, 108, 0, 0), *((size, x, 0, 0) for size, x in fragments)),
    }

    assert kept(found) == {1: [0], 2: [0, 1, 2]}


def test_a_component_far_from_its_position_hardly_moves_the_common_center() -> None:
    """A large wrong component 2.8 radii away is taken for structure 2; the one at its position is kept, too."""
    found = {1: component(10**6, 0, 0, 0), 2: components((10000, 156, 0, 0), (150, 100, 0, 0))}

    assert kept(found) == {1: [0], 2: [0, 1]}


def test_tiny_components_within_the_radius_are_removed() -> None:
    found = {1: component(10**6, 0, 0, 0), 2: components((10**4, 100, 0, 0), (100, 105, 0, 0), (99, 95, 0, 0))}

    assert kept(found) == {1: [0], 2: [0, 1]}


@pytest.mark.parametrize("axcodes", ALL_AXCODES)
def test_an_organ_that_a_bad_slice_breaks_is_kept_whole(axcodes: str) -> None:
    priors = measure_spatial_prior([subject_of(body())] * 2)
    broken = body()
    broken[:, :, ORGANS[1][2] + 2] = 0
    assert len(find_components(broken, 1, AFFINE).voxels) == 2
    broken, affine = stored_as(broken, AFFINE, axcodes)
    mask = broken.copy()

    assert not remove_implausible_components(mask, affine, priors, 4).any()
    assert np.array_equal(mask, broken)


def test_any_number_of_components_takes_little_memory() -> None:
    generator = np.random.default_rng(0)
    splinters = {
        value: components(*np.c_[np.full(20000, 3), generator.uniform(-200, 200, (20000, 3))]) for value in (1, 2)
    }

    chosen = choose_components(splinters, PRIORS)

    assert set(chosen) == {1, 2}
    assert all(0 < len(numbers) <= MAX_COMPONENTS for numbers in chosen.values())


def test_structures_without_a_prior_are_unchanged() -> None:
    priors: dict[str, Any] = {"1": measure_spatial_prior([subject_of(body())] * 2)["1"]}
    mask = body(extra={2: [(34, 2, 50)]})
    before = mask.copy()

    assert not remove_implausible_components(mask, AFFINE, priors, 4).any()
    assert not remove_implausible_components(mask, AFFINE, {}, 4).any()
    assert np.array_equal(mask, before)


def test_an_empty_mask_stays_empty() -> None:
    mask = np.zeros((5, 6, 7), np.uint8)

    assert not remove_implausible_components(mask, AFFINE, measure_spatial_prior([subject_of(body())] * 2), 4).any()
