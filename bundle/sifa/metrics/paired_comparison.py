"""Paired comparison of two results on the same cases: Wilcoxon signed-rank tests with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, wilcoxon

Array = npt.NDArray[np.float64]

NAN = float("nan")
DECIMALS = 6  # of differences, as many as files have: equal ones stay equal
ALPHA = 0.05  # level that the notes are about
FEWEST = 6  # pairs that differ: with 5, no two-sided p is below 2 / 2**5 = 0.0625


@dataclass(frozen=True)
class PairedTest:
    """The comparison of one metric of one structure; differences are second minus first.

    Args:
        pairs: cases in which both values are available; all but `not_available` is about these.
        differing: those of them with a difference other than 0, which the test uses.
        not_available: cases in which the first and the second value are not available.
        means: of both results.
        median_difference: median of the paired differences.
        interval: of the median difference, from order statistics, with a confidence of at least 95 %; NaN with
            fewer than six pairs.
        p: two-sided, of the Wilcoxon signed-rank test; NaN with fewer than six pairs that differ.
        adjusted_p: by Holm's correction over the structures with a p value; NaN where there is none.
        smallest_p: below which no adjusted p of the same structures can be, with as many pairs that differ.
    """

    pairs: int
    differing: int
    not_available: tuple[int, int]
    means: tuple[float, float]
    median_difference: float
    interval: tuple[float, float]
    p: float
    adjusted_p: float = NAN
    smallest_p: float = NAN

    @property
    def note(self) -> str:
        """What a reader has to know about the p value; empty where there is nothing."""
        if not self.pairs:
            return "no case has both values"
        if not self.differing:
            return "no difference in any case"
        if self.differing < FEWEST:
            return f"{self.differing} pairs that differ cannot reach significance, {FEWEST} could: no p value"
        if self.smallest_p >= ALPHA:
            return f"with so few pairs, no p (Holm) of these structures can be below {self.smallest_p:.3g}"
        return ""


def compare_structures(first: Array, second: Array) -> list[PairedTest]:
    """Compares two results structure by structure, with Holm's correction over the structures.

    Args:
        first: (cases, structures), NaN where a value is not available.
        second: the same cases and structures.
    """
    tests = [paired_test(one, other) for one, other in zip(first.T, second.T, strict=True)]
    adjusted = holm([test.p for test in tests])
    tested = [test.differing for test in tests if not math.isnan(test.p)]
    smallest = min(1.0, len(tested) * smallest_wilcoxon_p(max(tested))) if tested else NAN
    return [
        test if math.isnan(p) else replace(test, adjusted_p=p, smallest_p=smallest)
        for test, p in zip(tests, adjusted, strict=True)
    ]


def compare_overall(first: Array, second: Array) -> PairedTest:
    """Compares the means of cases over those structures for which both values are available; no correction.

    Args:
        first: (cases, structures), NaN where a value is not available.
        second: the same cases and structures.
    """
    both = ~np.isnan(first) & ~np.isnan(second)
    counts = both.sum(axis=1)
    means = [
        np.divide(np.where(both, one, 0).sum(axis=1), counts, out=np.full(len(one), NAN), where=counts > 0)
        for one in (first, second)
    ]
    test = paired_test(*means)
    return (
        test if math.isnan(test.p) else replace(test, adjusted_p=test.p, smallest_p=smallest_wilcoxon_p(test.differing))
    )


def paired_test(first: Array, second: Array) -> PairedTest:
    """Compares two series of values of the same cases (cases,), NaN where a value is not available."""
    both = ~np.isnan(first) & ~np.isnan(second)
    differences = np.round(second[both] - first[both], DECIMALS)
    differing = differences[differences != 0]
    has_pairs = differences.size > 0
    return PairedTest(
        pairs=differences.size,
        differing=differing.size,
        not_available=(int(np.isnan(first).sum()), int(np.isnan(second).sum())),
        means=(float(first[both].mean()), float(second[both].mean())) if has_pairs else (NAN, NAN),
        median_difference=float(np.median(differences)) if has_pairs else NAN,
        interval=median_interval(differences),
        p=float(wilcoxon(differing).pvalue) if differing.size >= FEWEST else NAN,
    )


def smallest_wilcoxon_p(differing: int) -> float:
    """Returns the two-sided p value of pairs that all differ in the same direction, exactly."""
    return 2.0 ** (1 - differing)


def median_interval(values: Array, confidence: float = 0.95) -> tuple[float, float]:
    """Returns an interval of the median, from one order statistic to another, whatever the distribution.

    It is the widest pair of order statistics that leaves out at most half of `1 - confidence` on each side, by the
    binomial distribution of the number of values below the median; NaN where there are too few values.

    Args:
        values: (number,).
        confidence: the least probability that the interval holds the median.
    """
    rank = int(binom.ppf((1 - confidence) / 2, values.size, 0.5)) if values.size else 0
    if rank < 1:
        return NAN, NAN
    ascending = np.sort(values)
    return float(ascending[rank - 1]), float(ascending[-rank])


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns Holm's adjusted p values (Holm 1979); NaN, where there was no test, does not count and stays."""
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [NAN] * len(p_values), 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = highest
    return adjusted
