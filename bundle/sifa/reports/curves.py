"""Curves of the scalars of a training."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Array = npt.NDArray[np.float64]

SIZE = (3.6, 1.9)  # of a plot, in inches
AXES = (0.16, 0.13, 0.78, 0.83)  # left, bottom, width and height of its axes, as shares of the plot
MAX_POINTS = 800  # that are drawn of a curve
SHOWN = (0.5, 99.5)  # percentiles of the values between which the axis runs: an outlier does not flatten the rest
SMOOTHED = 0.02  # share of a curve over which the mean is taken
RECORDED, MEAN, GRID, TEXT = "#b6d4f5", "#0969da", "#eaeef2", "#59636e"
STYLE: Any = {  # text stays text; two files of one curve are the same bytes
    "font.family": "sans-serif",
    "font.size": 8,
    "text.parse_math": False,
    "path.simplify_threshold": 0.25,  # points of 1/72 inch
    "svg.fonttype": "none",
    "svg.hashsalt": "sifa",
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@rc_context(STYLE)
def draw_curve(iterations: Array, values: Array) -> Figure | None:
    """Draws a scalar over the iterations: recorded values, faint, and their moving mean. Outliers lie on the border.

    Args:
        iterations: (rows,), ascending.
        values: (rows,); NaN and infinite ones are left out.

    Returns:
        A figure with two lines, or None without any finite value.
    """
    known = np.isfinite(values)
    if not known.any():
        return None
    lowest, highest = np.percentile(values[known], SHOWN)
    low, high = _interval(lowest, highest, margin=0.06)
    inside = np.where(known, values, np.nan).clip(low, high)
    thin = slice(None, None, -(-int(known.sum()) // MAX_POINTS))
    figure = Figure(figsize=SIZE)
    axes = figure.add_axes(AXES, frame_on=False, axisbelow=True, ylim=(low, high))
    axes.set_xlim(_interval(iterations[0], iterations[-1], margin=0))
    marker = "." if known.sum() == 1 else None
    for curve, color, width in ((inside, RECORDED, 0.75), (moving_mean(inside), MEAN, 1.5)):
        axes.plot(iterations[known][thin], curve[known][thin], color=color, linewidth=width, marker=marker)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_formatter("{x:.6g}")
    axes.grid(axis="y", color=GRID)
    axes.tick_params(length=0, labelcolor=TEXT)
    return figure


@rc_context(STYLE)
def to_svg(figure: Figure) -> bytes:
    """Returns a figure as an SVG file, whose text is text and which is the same bytes each time."""
    stream = BytesIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata=NO_METADATA)
    return stream.getvalue()


def moving_mean(values: Array) -> Array:
    """Returns the mean of the values around each one; NaN is left out.

    Args:
        values: (rows,).

    Returns:
        (rows,), NaN where all values around are NaN.
    """
    window = np.ones(max(1, round(SMOOTHED * len(values))))
    known = ~np.isnan(values)
    sums = np.convolve(np.where(known, values, 0), window, mode="same")
    counts = np.convolve(known, window, mode="same")
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0.5)


def _interval(low: float, high: float, margin: float) -> tuple[float, float]:
    """Returns an interval around two values, with a margin as a share of its length; it is never empty."""
    more = margin * (high - low) if high > low else abs(high) / 10 or 1.0
    return float(low - more), float(high + more)
