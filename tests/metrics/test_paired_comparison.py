"""Paired comparisons: the test against all signs written out, Holm's steps, and what too few pairs can say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from builders import Array
from scipy import stats
from sifa.metrics.paired_comparison import (
    compare_overall,
    compare_structures,
    holm,
    median_interval,
    paired_test,
    smallest_wilcoxon_p,
)

NAN = math.nan


def exact_p(differences: Sequence[float]) -> float:
    """Returns the two-sided p value of the signed-rank test from every assignment of signs, without zeros."""
    kept = np.array([value for value in differences if value != 0])
    ranks = stats.rankdata(np.abs(kept))
    observed = abs((np.sign(kept) * ranks).sum())
    signs = itertools.product((-1, 1), repeat=len(kept))
    return float(np.mean([abs((np.array(sign) * ranks).sum()) >= observed - 1e-9 for sign in signs]))


def pair(differences: Sequence[float]) -> tuple[Array, Array]:
    """Returns two series of values with these differences, second minus first."""
    first = np.linspace(40, 90, len(differences))
    return first, first + np.array(differences)


@pytest.mark.parametrize(
    "differences",
    [
        [1.1, 2.2, -0.3, 4.4, 5.5, 6.6],
        [1.1, 2.2, -0.3, 4.4, 5.5, 6.6, -7.7, 8.8, 9.9],
        [1.0, -1.0, 2.0, 2.0, 3.0, -3.0, 4.0, 5.0],  # ties
        [0.0, 0.0, 1.0, 2.0, -3.0, 4.0, 5.0, 6.0],  # zeros
    ],
)
def test_the_p_value_is_exact_with_ties_and_zeros_as_well(differences: list[float]) -> None:
    test = paired_test(*pair(differences))

    assert test.p == pytest.approx(exact_p(differences))
    assert test.median_difference == pytest.approx(np.median(differences))
    assert (test.pairs, test.differing) == (len(differences), np.count_nonzero(differences))


def test_differences_that_only_rounding_makes_are_none() -> None:
    first = np.array([90.1, 80.1, 70.3, 60.7, 50.2, 40.4, 30.9])
    second = first + 1e-9

    test = paired_test(first, second)

    assert test.differing == 0
    assert math.isnan(test.p)
    assert "no difference" in test.note


def test_swapping_the_results_turns_the_difference_around_and_keeps_p() -> None:
    first, second = pair([1.1, 2.2, -0.3, 4.4, 5.5, 6.6, 7.0])

    one, other = paired_test(first, second), paired_test(second, first)

    assert one.p == other.p
    assert one.median_difference == -other.median_difference
    assert one.interval == tuple(-limit for limit in reversed(other.interval))


def test_five_pairs_get_a_sentence_in_the_place_of_a_p_value() -> None:
    five, six = (paired_test(*pair([float(n) for n in range(1, count + 1)])) for count in (5, 6))

    assert math.isnan(five.p)
    assert "5 pairs that differ cannot reach significance" in five.note
    assert all(math.isnan(limit) for limit in five.interval)
    assert six.p == smallest_wilcoxon_p(6) == 0.03125
    assert six.interval == (1, 6)


def test_pairs_with_a_missing_value_are_left_out_and_counted() -> None:
    first, second = pair([1.0, 2, 3, 4, 5, 6, 7, 8])
    first[0], second[:2] = NAN, NAN

    test = paired_test(first, second)

    assert (test.pairs, test.not_available) == (6, (1, 2))
    assert test.p == exact_p([3, 4, 5, 6, 7, 8])
    assert test.means == (pytest.approx(first[2:].mean()), pytest.approx(second[2:].mean()))


def test_no_pair_at_all_is_said() -> None:
    test = paired_test(np.array([1.0, NAN]), np.array([NAN, 2.0]))

    assert (test.pairs, test.note) == (0, "no case has both values")
    assert math.isnan(test.median_difference)


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests_and_never_descends() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm's steps by hand
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_structures_without_a_p_value_do_not_count_for_holm() -> None:
    adjusted = holm([0.01, NAN, 0.04])

    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.04)


def test_structures_are_tested_one_by_one_and_corrected_together() -> None:
    generator = np.random.default_rng(0)
    first = generator.normal(70, 5, size=(10, 3))
    second = first + generator.normal((0, 2, 6), 2, size=(10, 3))

    tests = compare_structures(first, second)

    raw = [exact_p(column) for column in np.round(second - first, 6).T.tolist()]
    assert [test.p for test in tests] == pytest.approx(raw)
    assert [test.adjusted_p for test in tests] == pytest.approx(holm(raw))


def test_too_few_pairs_for_the_correction_are_noted() -> None:
    first = np.linspace(40, 90, 18).reshape(6, 3)
    rising = np.arange(1.0, 7.0)[:, None]

    three, one = compare_structures(first, first + rising), compare_structures(first[:, :1], first[:, :1] + rising)

    assert all("0.0938" in test.note for test in three)  # 3 times 2 / 2**6
    assert one[0].note == ""


@pytest.mark.parametrize("seed", range(20))
def test_no_adjusted_p_is_below_what_the_note_says(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first = generator.normal(size=(9, 4))
    second = first + generator.choice([0.0, 1, 1, 1, 2, 3], size=(9, 4)) * generator.choice([1, 1, -1], size=(1, 4))

    for test in compare_structures(first, second):
        assert math.isnan(test.p) or test.adjusted_p >= test.smallest_p - 1e-12


def test_the_overall_test_is_about_means_of_the_structures_that_both_have() -> None:
    first, second = np.full((7, 2), 50.0), np.full((7, 2), 50.0)
    second[:, 0] += np.arange(1, 8)
    second[3, 1] = NAN  # the mean of this case is that of the first structure, in both results

    test = compare_overall(first, second)

    expected = np.arange(1, 8) / 2
    expected[3] *= 2
    assert test.pairs == 7
    assert test.p == exact_p(expected.tolist())
    assert test.median_difference == np.median(expected)


@pytest.mark.parametrize("number", [6, 7, 12, 25, 60])
def test_the_interval_of_the_median_is_that_of_scipys_quantile_test(number: int) -> None:
    values = np.random.default_rng(number).normal(size=number)

    expected = stats.quantile_test(values, p=0.5).confidence_interval(confidence_level=0.95)

    assert median_interval(values) == pytest.approx((expected.low, expected.high))


def test_the_interval_covers_the_median_at_least_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    intervals = [median_interval(generator.exponential(size=9)) for _ in range(2000)]

    covered = np.mean([low <= math.log(2) <= high for low, high in intervals])

    assert 0.95 <= covered <= 0.98  # 1 - 2 * P(at most 1 of 9 coins) = 0.961
