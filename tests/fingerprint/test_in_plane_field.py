"""In-plane fields of view: matched where the domains differ, and as before where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sifa.fingerprint.in_plane_field import choose_slice_field

WIDE, NARROW = [[240.0, 240.0, 100.0]] * 3, [[140.0, 140.0, 110.0]] * 2


def test_slices_show_what_the_smaller_domain_shows_and_source_crops_have_room() -> None:
    field = choose_slice_field(WIDE, NARROW, (64, 64), None, match=True)
    assert field.is_matched
    assert 64 * field.pixel_spacing == pytest.approx(140, abs=0.1)
    assert field.source_size == (80, 80)  # an eighth of a slice on each side


def test_a_smaller_source_has_no_room() -> None:
    field = choose_slice_field(NARROW, WIDE, (64, 64), None, match=True)
    assert (field.is_matched, field.source_size) == (True, (64, 64))
    assert 64 * field.pixel_spacing == pytest.approx(140, abs=0.1)


def test_room_ends_where_the_source_ends() -> None:
    field = choose_slice_field([[200.0, 150.0, 100.0]], [[150.0, 150.0, 100.0]], (64, 64), 2.5, match=True)
    assert field.source_size == (64 + 2 * 8, 64)  # (200 / 2.5 - 64) / 2 pixels, and none along columns


@given(
    st.lists(st.tuples(st.floats(100, 125), st.floats(100, 125)), min_size=1, max_size=5),
    st.lists(st.tuples(st.floats(100, 125), st.floats(100, 125)), min_size=1, max_size=5),
    st.booleans(),
)
def test_domains_that_differ_by_less_than_a_quarter_are_cut_as_before(
    source: list[tuple[float, float]], target: list[tuple[float, float]], match: bool
) -> None:
    field = choose_slice_field(source, target, (64, 96), None, match)
    expected = np.max(np.median([*source, *target], axis=0) / (64, 96))
    assert field == (False, round(float(expected), 3), (64, 96))


def test_without_matching_nothing_is_matched() -> None:
    field = choose_slice_field(WIDE, NARROW, (64, 64), None, match=False)
    assert (field.is_matched, field.source_size) == (False, (64, 64))
    assert 64 * field.pixel_spacing == pytest.approx(240, abs=0.1)  # the median of all scans
