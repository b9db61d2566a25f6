"""Curves of the scalars of a training, as parts of a page, and the groups in which they are shown."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from sifa.reports.scalar_table import EPOCH, ITERATION
from sifa.utils.keys import LossTerms, SIFAKeys

Array = npt.NDArray[np.float64]

LOSSES = "Losses of the networks that make images and masks"
DISCRIMINATORS = "Losses of the discriminators"
TERMS = "Terms of the losses, not weighted"
RATES = "Learning rates, and the weight of the prediction's adversarial term"
NORMS = "Gradient norms"
OTHERS = "Other scalars"
GROUPS = (LOSSES, DISCRIMINATORS, TERMS, RATES, NORMS, OTHERS)  # in the report's order
UNSHOWN = (EPOCH, ITERATION, str(SIFAKeys.LOSS))  # the last one is the segmenter's loss once more

WIDTH, HEIGHT = 360, 190  # of a picture, in pixels
LEFT, RIGHT, TOP, BOTTOM = 54, 338, 8, 164  # where its axes lie
MOST_POINTS = 800  # that are drawn of a curve
SHOWN = (0.5, 99.5)  # percentiles of the values between which the axis runs: an outlier does not flatten the rest
SMOOTHED = 0.02  # share of a curve over which the mean is taken


def group_scalars(names: Collection[str]) -> dict[str, list[str]]:
    """Returns which scalars each group shows, in the order of `GROUPS`; groups without any are left out."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in names:
        if name not in UNSHOWN:
            groups[_group(name)].append(name)
    return {group: members for group, members in groups.items() if members}


def draw_curve(iterations: Array, values: Array) -> str:
    """Draws a scalar over the iterations: what was recorded, faint, and its moving mean; outliers lie on the border.

    Args:
        iterations: (rows,), ascending.
        values: (rows,); NaN and infinite ones are left out.

    Returns:
        An SVG element for a page whose style knows `.raw` and `.mean`.
    """
    known = np.isfinite(values)
    if not known.any():
        return '<p class="muted">No finite value.</p>'
    across = _interval(iterations[0], iterations[-1], margin=0)
    low, high = np.percentile(values[known], SHOWN)
    up = _interval(low, high, margin=0.06)
    inside = np.where(known, values, np.nan).clip(*up)
    thin = slice(None, None, -(-int(known.sum()) // MOST_POINTS))
    x = np.interp(iterations[known][thin], across, (LEFT, RIGHT))
    raw, mean = (_polyline(x, np.interp(y[known][thin], up, (BOTTOM, TOP))) for y in (inside, moving_mean(inside)))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{_axes(across, up)}'
        f'<path class="raw" d="{raw}"/><path class="mean" d="{mean}"/></svg>'
    )


def moving_mean(values: Array) -> Array:
    """Returns the mean of the values around each one; NaN counts for nothing.

    Args:
        values: (rows,).

    Returns:
        (rows,), NaN where there is nothing around.
    """
    window = np.ones(max(1, round(SMOOTHED * len(values))))
    known = ~np.isnan(values)
    sums = np.convolve(np.where(known, values, 0), window, mode="same")
    counts = np.convolve(known, window, mode="same")
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0.5)


def _group(name: str) -> str:
    if name.endswith("_discriminator_loss"):
        return DISCRIMINATORS
    if name.endswith("_loss"):
        return LOSSES
    if name in list(LossTerms):
        return TERMS
    if name.endswith(("_learning_rate", "_weight")):
        return RATES
    return NORMS if name.endswith("_gradient_norm") else OTHERS


def _interval(low: float, high: float, margin: float) -> tuple[float, float]:
    """Returns an interval around two values, with a margin as a share of its length; it is never empty."""
    more = margin * (high - low) if high > low else abs(high) / 10 or 1.0
    return float(low - more), float(high + more)


def _axes(across: tuple[float, float], up: tuple[float, float]) -> str:
    """Returns lines and numbers at round values of both intervals."""
    rows = [
        f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.6g}</text>'
        for tick, y in _ticks(up, (BOTTOM, TOP), integer=False)
    ]
    columns = [
        f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{tick:.0f}</text>'
        for tick, x in _ticks(across, (LEFT, RIGHT), integer=True)
    ]
    return "".join([*rows, *columns])


def _ticks(interval: tuple[float, float], pixels: tuple[int, int], integer: bool) -> list[tuple[float, float]]:
    """Returns round values within an interval, and the pixels where they lie."""
    values = MaxNLocator(4, integer=integer).tick_values(*interval)
    return [
        (value, float(np.interp(value, interval, pixels))) for value in values if interval[0] <= value <= interval[1]
    ]


def _polyline(x: Array, y: Array) -> str:
    """Returns the `d` of a path through points; that of a single one is a dot."""
    points = [f"{across:.1f} {down:.1f}" for across, down in zip(x, y, strict=True)]
    return f"M{' L'.join(points)}{' h0' if len(points) == 1 else ''}"
