"""Rules for epochs, batch, workers and matching: each test states one of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import make_fingerprint
from hypothesis import given
from hypothesis import strategies as st
from planning_cases import STATISTICS
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.planning.appearance import matched_ranges, wants_matched_field, wants_random_appearance
from sifa.planning.schedule import choose_batch, choose_epochs, choose_workers, drawn_slices

GIB = 2**30


def test_compact_yaml_keeps_its_epochs_on_the_phantom_and_has_more_with_more_slices() -> None:
    assert choose_epochs(12, 100, 4, 638) == 12
    assert choose_epochs(12, 100, 4, 4 * 638) == 24  # twice the draws for four times the slices
    assert choose_epochs(12, 100, 4, 100 * 638) == 24  # and no more than twice


def test_a_config_that_draws_more_keeps_its_epochs() -> None:
    assert choose_epochs(20, 1200, 8, 5000) == 20
    assert choose_epochs(12, 100, 4, 100) == 12
    assert choose_epochs(7, None, 8, 10**6) == 7


@given(st.integers(1, 50), st.integers(1, 2000), st.integers(1, 32), st.integers(1, 10**6))
def test_planning_a_plan_again_changes_nothing(epochs: int, iterations: int, batch: int, slices: int) -> None:
    planned = choose_epochs(epochs, iterations, batch, slices)

    assert planned >= epochs
    assert choose_epochs(planned, iterations, batch, slices) == planned


def test_target_slices_count_as_long_as_the_source_scans_where_the_field_of_view_is_matched() -> None:
    assert drawn_slices(100, 1000, 250, 500, matched=True) == 600
    assert drawn_slices(100, 1000, 250, 500, matched=False) == 1100
    assert drawn_slices(100, 1000, 500, 250, matched=True) == 1100


def test_on_a_cpu_there_are_workers_only_where_training_would_wait_for_data() -> None:
    assert choose_workers(1.0, 0.05, cores=8, on_gpu=False) == 0
    assert choose_workers(1.0, 0.5, cores=8, on_gpu=False) == 1
    assert choose_workers(0.1, 1.0, cores=1, on_gpu=False) == 0  # there is no core for them


def test_on_a_gpu_there_are_as_many_workers_as_keep_up_and_one_more() -> None:
    assert choose_workers(0.2, 0.7, cores=16, on_gpu=True) == 5
    assert choose_workers(0.2, 7.0, cores=4, on_gpu=True) == 3
    assert choose_workers(0.2, 0.0, cores=1, on_gpu=True) == 1


def test_the_batch_is_halved_until_it_fits() -> None:
    assert choose_batch(8, 6 * GIB, 10 * GIB) == 8
    assert choose_batch(8, 20 * GIB, 10 * GIB) == 2
    assert choose_batch(8, 2000 * GIB, 10 * GIB) == 1
    assert choose_batch(8, 2000 * GIB, None) == 8


def with_window(lower: float, upper: float, bright: float, **changes: object) -> Fingerprint:
    """Returns a fingerprint whose target has a window in HU and a share of bright tissue."""
    fingerprint = make_fingerprint(
        statistics=replace(STATISTICS, target=replace(STATISTICS.target, bright_share=bright)), **changes
    )
    intensity = {"mode": "window", "lower": lower, "upper": upper}
    return replace(fingerprint, target=replace(fingerprint.target, intensity=intensity))


def test_soft_tissue_up_to_200_hu_is_matched() -> None:
    assert matched_ranges(with_window(-125, 275, 0.03)) == {"source": [-0.95, 1], "target": [-0.95, 0.63]}
    assert matched_ranges(with_window(-200, 200, 0.0)) == {"source": [-0.95, 1], "target": [-0.95, 1.0]}


def test_nothing_is_matched_where_structures_are_full_of_contrast_medium() -> None:
    assert matched_ranges(with_window(-277, 451, 0.2)) is None


@pytest.mark.parametrize("domain", ["source", "target"])
def test_only_a_source_in_arbitrary_units_is_matched_to_a_target_in_hu(domain: str) -> None:
    fingerprint = with_window(-125, 275, 0.03)
    other = replace(getattr(fingerprint, domain), modality="CT" if domain == "source" else "MR")

    assert matched_ranges(replace(fingerprint, **{domain: other})) is None


def test_source_images_get_a_random_appearance_where_scans_are_sampled_differently() -> None:
    assert wants_random_appearance((1.25, 1.25, 7.7), (2.0, 2.0, 3.0))
    assert not wants_random_appearance((2.0, 2.0, 2.5), (1.9, 1.9, 2.3))


def test_target_scans_more_than_a_tenth_longer_are_drawn_from_in_part() -> None:
    assert wants_matched_field(273, 456)
    assert not wants_matched_field(96, 97)
    assert not wants_matched_field(200, 100)
