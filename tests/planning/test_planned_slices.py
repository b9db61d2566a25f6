"""Rules for slices: each test states one of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sifa.planning.slices import (
    choose_field,
    latents_across,
    pixels_of,
    wanted_size,
    wanted_spacing,
)

LENGTHS = st.floats(20, 600)


def test_slices_show_the_larger_body_where_both_are_about_as_large() -> None:
    assert choose_field((300, 320), (310, 350), (200, 200)) == (350, 350)  # sides alike: square


def test_slices_show_the_smaller_body_where_they_differ_but_no_less_than_the_labels() -> None:
    assert choose_field((250, 250), (500, 500), (200, 200)) == (250, 250)
    assert choose_field((250, 250), (500, 500), (280, 200)) == (280, 280)


def test_without_a_target_slices_show_the_source() -> None:
    assert choose_field((250, 240), None, (100, 100)) == (250, 250)


def test_slices_of_a_long_body_are_not_square() -> None:
    assert choose_field((600, 250), (600, 260), (500, 80)) == (600, 260)


@given(LENGTHS, st.floats(0.2, 30))
def test_sizes_are_multiples_of_32_from_64_to_256_whose_pixels_are_as_fine_as_asked(
    field: float, wanted: float
) -> None:
    size = wanted_size((field, field / 2), wanted)

    assert size % 32 == 0
    assert 64 <= size <= 256
    assert size == 256 or field / size <= wanted * (1 + 1e-6)
    assert size == 64 or field / (size - 32) > wanted * (1 - 1e-6)


@given(LENGTHS, LENGTHS, st.sampled_from([64, 96, 128, 256]))
def test_slices_show_the_whole_field_and_networks_can_halve_their_sides_three_times(
    rows: float, columns: float, size: int
) -> None:
    pixels = pixels_of((rows, columns), size)

    assert max(pixels.size) == size
    assert all(side % 16 == 0 for side in pixels.size)
    assert all(shown >= side * (1 - 1e-6) for shown, side in zip(pixels.extent, (rows, columns), strict=True))
    step = 0.25 if pixels.spacing >= 2 else 0.05
    assert pixels.spacing / step == pytest.approx(round(pixels.spacing / step))


def test_the_narrowest_structure_in_the_plane_decides_on_the_pixels() -> None:
    structures = {"liver": (180.0, 200.0, 160.0), "kidney": (60.0, 70.0, 20.0)}

    assert wanted_spacing(structures, 2.5) == (60 / 8 / 2.5, "kidney")
    assert latents_across(structures, 3.0) == (2.5, "kidney")
