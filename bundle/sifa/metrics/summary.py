"""Summary of a metric over cases: means, standard deviations, medians and bootstrap intervals of the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Interval = tuple[float, float]

NAN = float("nan")
NO_INTERVAL: Interval = (NAN, NAN)


@dataclass(frozen=True)
class Bootstrap:
    """How intervals of means are computed: percentile bootstrap, the cases being resampled with replacement.

    Args:
        resamples: how often all cases are drawn.
        seed: of the random numbers.
        confidence: share of the resampled means within the interval.
    """

    resamples: int = 10000
    seed: int = 0
    confidence: float = 0.95


class Summary(NamedTuple):
    """Statistics over the cases in which a metric is available; NaN where there are too few of them."""

    mean: float
    sd: float  # of the sample: n - 1 in the denominator
    median: float
    interval: Interval  # of the mean
    cases: int  # in which the metric is available
    not_available: int


def mean_of_measured(values: Array) -> float:
    """Returns the mean without NaN; NaN when there is nothing else."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if measured.size else NAN


def mean_of_structures(table: Array) -> float:
    """Returns the mean over structures of their means over cases (cases, structures), both without NaN."""
    return mean_of_measured(np.array([mean_of_measured(column) for column in table.T]))


def means_of_cases(table: Array) -> Array:
    """Returns the mean of each case over its structures (cases,), without NaN."""
    return np.array([mean_of_measured(row) for row in table])


def summarize(table: Array, bootstrap: Bootstrap) -> tuple[list[Summary], Summary]:
    """Summarizes a metric over cases.

    Args:
        table: (cases, structures), NaN where it is not available.
        bootstrap: how intervals are computed.

    Returns:
        A summary of each structure, and one of all structures: the mean and its interval are those of
        `mean_of_structures`, the other statistics those of `means_of_cases`.
    """
    intervals, overall = bootstrap_intervals(table, bootstrap)
    structures = [
        _summary(column, mean_of_measured(column), one) for column, one in zip(table.T, intervals, strict=True)
    ]
    return structures, _summary(means_of_cases(table), mean_of_structures(table), overall)


def bootstrap_intervals(table: Array, bootstrap: Bootstrap) -> tuple[list[Interval], Interval]:
    """Returns the interval of each structure's mean and that of the mean over structures.

    All structures are resampled together, since they are measured on the same cases. An interval needs two cases.

    Args:
        table: (cases, structures), NaN where the metric is not available.
        bootstrap: how intervals are computed.
    """
    cases = len(table)
    random = np.random.default_rng(bootstrap.seed)
    counts = random.multinomial(cases, np.full(cases, 1 / cases), size=bootstrap.resamples)  # (resamples, cases)
    measured = ~np.isnan(table)
    sums, numbers = counts @ np.where(measured, table, 0), counts @ measured
    means = np.divide(sums, numbers, out=np.full(sums.shape, NAN), where=numbers > 0)  # (resamples, structures)
    known = ~np.isnan(means)
    overall = np.divide(
        np.where(known, means, 0).sum(axis=1), known.sum(axis=1), out=np.full(len(means), NAN), where=known.any(axis=1)
    )
    intervals = [
        _interval(column, bootstrap.confidence) if count > 1 else NO_INTERVAL
        for column, count in zip(means.T, measured.sum(axis=0), strict=True)
    ]
    enough = np.count_nonzero(measured.any(axis=1)) > 1
    return intervals, _interval(overall, bootstrap.confidence) if enough else NO_INTERVAL


def _interval(means: Array, confidence: float) -> Interval:
    outside = 50 * (1 - confidence)  # percent on each side
    low, high = np.percentile(means[~np.isnan(means)], (outside, 100 - outside))
    return float(low), float(high)


def _summary(values: Array, mean: float, interval: Interval) -> Summary:
    measured = values[~np.isnan(values)]
    return Summary(
        mean=mean,
        sd=float(measured.std(ddof=1)) if measured.size > 1 else NAN,
        median=float(np.median(measured)) if measured.size else NAN,
        interval=interval,
        cases=measured.size,
        not_available=values.size - measured.size,
    )
