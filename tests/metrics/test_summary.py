"""Summaries over cases: what n/a does to each statistic, and the bootstrap against SciPy's."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from builders import Array
from scipy import stats
from sifa.metrics.summary import Bootstrap, bootstrap_intervals, mean_of_structures, means_of_cases, summarize

NAN = math.nan
TABLE = np.array([[50.0, 100.0, NAN], [25.0, NAN, NAN], [75.0, 50.0, NAN], [90.0, 60.0, NAN]])  # (cases, structures)


def random_table(cases: int, structures: int) -> Array:
    return np.random.default_rng(1).normal(70, 15, size=(cases, structures))


def test_each_structure_is_summarized_over_the_cases_that_have_it() -> None:
    (first, second, third), _ = summarize(TABLE, Bootstrap(100))

    assert first.mean == statistics.mean([50, 25, 75, 90])
    assert first.sd == pytest.approx(statistics.stdev([50, 25, 75, 90]))
    assert (first.median, first.cases, first.not_available) == (62.5, 4, 0)
    assert (second.mean, second.median, second.cases, second.not_available) == (70, 60, 3, 1)
    assert second.sd == pytest.approx(statistics.stdev([100, 50, 60]))
    assert math.isnan(third.mean)
    assert math.isnan(third.sd)
    assert (third.cases, third.not_available) == (0, 4)


def test_the_overall_mean_is_that_of_structures_and_the_spread_that_of_cases() -> None:
    _, overall = summarize(TABLE, Bootstrap(100))
    cases = [75.0, 25.0, 62.5, 75.0]

    assert overall.mean == mean_of_structures(TABLE) == statistics.mean([60, 70])
    assert means_of_cases(TABLE).tolist() == cases
    assert overall.sd == pytest.approx(statistics.stdev(cases))
    assert overall.median == statistics.median(cases)
    assert (overall.cases, overall.not_available) == (4, 0)


@pytest.mark.parametrize("cases", [12, 40])
def test_an_interval_is_that_of_scipys_percentile_bootstrap(cases: int) -> None:
    table = random_table(cases, 2)

    intervals, _ = bootstrap_intervals(table, Bootstrap(20000))

    for column, interval in zip(table.T, intervals, strict=True):
        expected = stats.bootstrap((column,), np.mean, n_resamples=20000, method="percentile", rng=3)
        assert interval == pytest.approx(tuple(expected.confidence_interval), abs=0.03 * column.std())


def test_the_overall_interval_resamples_whole_cases() -> None:
    table = random_table(12, 1) + np.zeros((1, 3))  # three structures that rise and fall together

    intervals, overall = bootstrap_intervals(table, Bootstrap(2000))

    assert overall == pytest.approx(intervals[0])  # independent resamples of structures would shrink it


def test_a_case_that_lacks_a_structure_does_not_change_its_interval_much() -> None:
    table = random_table(30, 1)
    with_missing = np.vstack([table, np.full((3, 1), NAN)])

    (one,), _ = bootstrap_intervals(table, Bootstrap(20000))
    (other,), _ = bootstrap_intervals(with_missing, Bootstrap(20000))

    assert other == pytest.approx(one, abs=0.05 * table.std())


def test_the_seed_decides_the_interval() -> None:
    table = random_table(8, 2)

    first, again, other = (bootstrap_intervals(table, Bootstrap(500, seed)) for seed in (0, 0, 1))

    assert first == again
    assert first != other


def test_more_confidence_is_a_wider_interval() -> None:
    (narrow,), _ = bootstrap_intervals(random_table(20, 1), Bootstrap(5000, confidence=0.5))
    (wide,), _ = bootstrap_intervals(random_table(20, 1), Bootstrap(5000, confidence=0.95))

    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_equal_values_have_an_interval_of_no_width() -> None:
    (interval,), _ = bootstrap_intervals(np.full((4, 1), 37.0), Bootstrap(100))

    assert interval == pytest.approx((37, 37))


@pytest.mark.parametrize("table", [[[80.0]], [[80.0], [NAN], [NAN]], [[NAN], [NAN]]], ids=["one", "one left", "none"])
def test_fewer_than_two_values_have_no_interval(table: list[list[float]]) -> None:
    (interval,), overall = bootstrap_intervals(np.array(table), Bootstrap(100))

    assert all(math.isnan(limit) for limit in (*interval, *overall))
