"""From signals to Dice: an isotonic regression on their mean, and intervals by split conformal prediction."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

FOLDS = 5
COVERAGE = 0.9
BINS = 3  # of predicted Dice, each with its own half-width
GOOD = 0.7  # Dice from which a mask counts as good
FALSE_ALARMS = 0.1  # share of good masks that are flagged, in calibration


class MonotoneFit(NamedTuple):
    """The fitted function of a structure; plain numbers."""

    scores: list[float]  # increasing
    dice: list[float]  # at these scores, not decreasing; linear in between
    edges: list[float]  # of predicted Dice between the bins
    widths: list[float]  # half of the interval, by bin
    threshold: float  # of predicted Dice, below which a structure is flagged


def fit_curve(scores: np.ndarray, dice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores and Dice of the isotonic regression of (N,) values, one pair for each step.

    Between two steps it is linear. An empty mask, of score 0, has Dice 0.
    """
    order = np.argsort(scores, kind="stable")
    found = isotonic_regression(dice[order])
    starts = np.asarray(found.blocks)[:-1]
    stops = np.asarray(found.blocks)[1:]
    middles = np.array([scores[order][a:b].mean() for a, b in zip(starts, stops, strict=True)])
    levels = np.array([found.x[a] for a in starts])
    kept = middles > 0
    return np.concatenate([[0.0], middles[kept]]), np.clip(np.concatenate([[0.0], levels[kept]]), 0, 1)


def fit(scores: np.ndarray, dice: np.ndarray, groups: np.ndarray, seed: int = 0) -> MonotoneFit:
    """Fits the Dice of masks by their scores.

    Residuals, whose quantiles are the intervals, are those of scans that a fit has not seen.

    Args:
        scores: mean of the signals, (N,), from 0 to 1.
        dice: true Dice, (N,), from 0 to 1.
        groups: number of the scan of each, (N,); all masks of a scan are in one fold.
        seed: of the folds.
    """
    scans = np.random.default_rng(seed).permutation(np.unique(groups))
    predicted = np.zeros(len(dice))
    for part in np.array_split(scans, FOLDS):
        held = np.isin(groups, part)
        predicted[held] = np.interp(scores[held], *fit_curve(scores[~held], dice[~held]))
    edges = np.quantile(predicted, np.arange(1, BINS) / BINS)
    bins = np.searchsorted(edges, predicted, side="right")
    widths = [_conformal_quantile(np.abs(dice - predicted)[bins == number]) for number in range(BINS)]
    good = predicted[dice >= GOOD]
    threshold = float(np.quantile(good, FALSE_ALARMS)) if len(good) else GOOD
    x, y = fit_curve(scores, dice)
    return MonotoneFit(x.tolist(), y.tolist(), edges.tolist(), widths, threshold)


def _conformal_quantile(residuals: np.ndarray) -> float:
    """Returns the ceil((n + 1) * COVERAGE)-th smallest residual; 1 where there are too few."""
    rank = math.ceil((len(residuals) + 1) * COVERAGE)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else 1.0


def predict(fitted: MonotoneFit, score: float) -> tuple[float, float, float]:
    """Returns predicted Dice, and the lower and upper end of its interval, each from 0 to 1."""
    predicted = float(np.interp(score, fitted.scores, fitted.dice))
    width = fitted.widths[int(np.searchsorted(fitted.edges, predicted, side="right"))]
    return predicted, max(0.0, predicted - width), min(1.0, predicted + width)
