"""From signals to Dice: a regression that never falls with a signal, and intervals by split conformal prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression, nnls

FOLDS = 5
COVERAGE = 0.9
CAUTIOUS_COVERAGE = 0.95  # where calibration does not resemble the scans that are segmented
LEAST_IN_BIN = 20  # masks; a bin with fewer has the half-width of all
BINS = 3  # of predicted Dice, each with its own half-width
GOOD = 0.7  # Dice from which a mask counts as good
FALSE_ALARMS = 0.1  # share of good masks that are flagged, in calibration


class MonotoneFit(NamedTuple):
    """The fitted function of all structures; plain numbers."""

    weights: dict[str, float]  # of the signals, none negative
    offset: float
    scores: list[float]  # increasing
    dice: list[float]  # at these scores, not decreasing; linear in between
    edges: list[float]  # of predicted Dice between the bins
    widths: list[float]  # half of the interval, by bin
    cautious_widths: list[float]  # likewise, where calibration does not resemble the scan
    threshold: float  # of predicted Dice, below which a structure is flagged


class Prediction(NamedTuple):
    """Predicted Dice and its interval, from 0 to 1."""

    dice: float
    low: float
    high: float


EMPTY = Prediction(0.0, 0.0, 0.0)  # of an empty mask, in a scan that shows the structure


class _Curve(NamedTuple):
    weights: np.ndarray
    offset: float
    scores: np.ndarray
    dice: np.ndarray

    def __call__(self, signals: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.interp(signals @ self.weights + self.offset, self.scores, self.dice)
        return found


def fit(
    signals: Sequence[Mapping[str, float]],
    dice: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
    seed: int = 0,
) -> MonotoneFit:
    """Fits the Dice of masks by their signals, with one function for all structures.

    A structure that the imitations show poorly learns from the others what good masks look like. Least squares with
    weights that are not negative (NNLS) makes one score of the signals, and an isotonic regression maps it to Dice.
    Residuals, whose quantiles are the intervals, are those of scans that a fit has not seen.

    Args:
        signals: of each mask, the same names in all, from 0 to 1.
        dice: true Dice, (N,), from 0 to 1.
        groups: number of the scan of each mask, (N,); all masks of a scan are in one fold.
        weights: how much the residual of each mask counts in intervals, (N,); None: all alike.
        seed: of the folds.
    """
    names = list(signals[0])
    values = np.array([[each[name] for name in names] for each in signals])
    scans = np.random.default_rng(seed).permutation(np.unique(groups))
    predicted = np.zeros(len(dice))
    for part in np.array_split(scans, FOLDS):
        held = np.isin(groups, part)
        predicted[held] = _fit_curve(values[~held], dice[~held])(values[held])
    edges = np.quantile(predicted, np.arange(1, BINS) / BINS)
    bins = np.searchsorted(edges, predicted, side="right")
    residuals, ones = np.abs(dice - predicted), np.ones(len(dice))
    counted = ones if weights is None else weights

    def widths(share: float, counted: np.ndarray) -> list[float]:
        parts = [bins == place for place in range(BINS)]
        parts = [part if part.sum() >= LEAST_IN_BIN else np.ones_like(part) for part in parts]
        return [conformal_quantile(residuals[part], counted[part], share) for part in parts]

    usual = widths(COVERAGE, counted)
    cautious = [max(pair) for pair in zip(usual, widths(CAUTIOUS_COVERAGE, ones), strict=True)]
    good = predicted[dice >= GOOD]
    threshold = float(np.quantile(good, FALSE_ALARMS)) if len(good) else GOOD
    curve = _fit_curve(values, dice)
    return MonotoneFit(
        dict(zip(names, curve.weights.tolist(), strict=True)),
        float(curve.offset),
        curve.scores.tolist(),
        curve.dice.tolist(),
        edges.tolist(),
        usual,
        cautious,
        threshold,
    )


def _fit_curve(values: np.ndarray, dice: np.ndarray) -> _Curve:
    """Returns the fit of signals (N, S) without intervals."""
    ones = np.ones((len(values), 1))
    solution, _ = nnls(np.hstack([values, ones, -ones]), dice)
    weights, offset = solution[:-2], float(solution[-2] - solution[-1])
    scores = values @ weights + offset
    return _Curve(weights, offset, *_isotonic(scores, dice))


def _isotonic(scores: np.ndarray, dice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores and Dice of the isotonic regression of (N,) values, one pair for each step."""
    levels, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(places, dice) / counts  # of masks with the same score
    found = isotonic_regression(means, weights=counts)
    blocks = np.asarray(found.blocks)
    middles = np.array([np.average(levels[a:b], weights=counts[a:b]) for a, b in pairwise(blocks)])
    steps: np.ndarray = np.clip(found.x[blocks[:-1]], 0, 1)
    return middles, steps


def conformal_quantile(residuals: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Returns the weighted conformal quantile of residuals; 1 where there are too few.

    It is the smallest residual up to which a share of all weight lies, that of the next mask included, whose residual
    may be anything (Tibshirani et al., NeurIPS 2019). Its weight is not known; a mask like those that are segmented has
    the mean weight of masks drawn by their weights, sum w^2 / sum w. With equal weights this is the
    ceil((n + 1) * share)-th smallest residual.

    Args:
        residuals: distances of predicted from true Dice, (N,).
        weights: (N,).
        share: of masks to cover.
    """
    if not weights.any():
        return 1.0
    order = np.argsort(residuals)
    reached = np.cumsum(weights[order])
    needed = share * (weights.sum() + (weights**2).sum() / weights.sum())
    place = int(np.searchsorted(reached, needed * (1 - 1e-12)))
    return float(residuals[order][place]) if place < len(residuals) else 1.0


def needed_signals(fitted: MonotoneFit) -> tuple[str, ...]:
    """Returns the signals that a prediction depends on."""
    return tuple(name for name, weight in fitted.weights.items() if weight > 0)


def predict(fitted: MonotoneFit, signals: Mapping[str, float], cautiously: bool = False) -> Prediction:
    """Returns what a fit predicts of a mask that is not empty.

    Args:
        fitted: the fit.
        signals: at least `needed_signals`, from 0 to 1.
        cautiously: whether calibration does not resemble the scan.
    """
    score = fitted.offset + sum(fitted.weights[name] * signals[name] for name in needed_signals(fitted))
    dice = float(np.interp(score, fitted.scores, fitted.dice))
    widths = fitted.cautious_widths if cautiously else fitted.widths
    width = widths[int(np.searchsorted(fitted.edges, dice, side="right"))]
    return Prediction(dice, max(0.0, dice - width), min(1.0, dice + width))
