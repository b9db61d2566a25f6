"""Box plots of the main metrics over cases, a row for each structure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sifa.metrics.metric_list import MAIN
from sifa.metrics.results import Results
from sifa.reports.colors import COLORS
from sifa.reports.curves import GRID, STYLE, TEXT, to_svg
from sifa.utils.files import temporary_beside

Array = npt.NDArray[np.float64]

WIDTH, ROW, FRAME = 2.4, 0.34, 0.75  # inches: of a panel, of a structure, of heading and axis
NAMES = 1.9  # inches beside the first panel
LONGEST_NAME = 32  # characters
LINE = "#24292f"
DPI = 200  # of the PNG file


@rc_context(STYLE)
def draw_box_plots(results: Results, metrics: Sequence[str] = MAIN) -> Figure:
    """Draws a panel for each metric: for each structure a box from the first to the third quartile, with the median.

    Whiskers lead to the last value within 1.5 times the height of the box. Each case is a dot. The number of cases in
    which the metric is not available is written at the right.

    Args:
        results: of all cases.
        metrics: one panel each.
    """
    count = len(results.structures)
    width, height = NAMES + WIDTH * len(metrics), FRAME + ROW * count
    figure = Figure(figsize=(width, height))
    for place, metric in enumerate(metrics):
        left, share = (NAMES + WIDTH * place) / width, 0.84 * WIDTH / width
        axes = figure.add_axes((left, 0.42 / height, share, ROW * count / height), frame_on=False, axisbelow=True)
        _draw_panel(axes, results.values[metric], results.headings[metric])
        names = [shorten(name, LONGEST_NAME, placeholder="...") for name in results.structures]
        axes.set_yticks(range(count), names if place == 0 else [""] * count)
    return figure


def write_box_plots(folder: Path, name: str, results: Results) -> list[Path]:
    """Writes the figure as `<name>.svg` and `<name>.png`, whole or not at all, and returns both paths."""
    figure = draw_box_plots(results)
    vector, pixels = folder / f"{name}.svg", folder / f"{name}.png"
    with temporary_beside(vector) as temporary:
        temporary.write_bytes(to_svg(figure))
    figure.set_dpi(DPI)  # SVG has its own
    with temporary_beside(pixels) as temporary, rc_context(STYLE):
        FigureCanvasAgg(figure).print_png(str(temporary), metadata={"Software": None})
    return [vector, pixels]


def _draw_panel(axes: Axes, table: Array, heading: str) -> None:
    count = table.shape[1]
    columns = [column[~np.isnan(column)] for column in table.T]
    colors = [COLORS[index % len(COLORS)] for index in range(count)]
    line: dict[str, Any] = {"color": LINE, "linewidth": 0.9}
    boxes = axes.boxplot(
        columns, positions=range(count), orientation="horizontal", widths=0.6, showfliers=False, patch_artist=True,
        medianprops={**line, "linewidth": 1.6}, whiskerprops=line, capprops=line, boxprops={"linewidth": 0.9},
    )  # fmt: skip
    for box, color in zip(boxes["boxes"], colors, strict=True):
        box.set(facecolor=(color, 0.35), edgecolor=LINE)
    for row, (values, color) in enumerate(zip(columns, colors, strict=True)):
        heights = row + 0.22 * _spread(len(values))
        axes.plot(values, heights, ".", color=color, markeredgecolor=LINE, markeredgewidth=0.3, markersize=4.5)
        missing = len(table) - len(values)
        if missing:
            axes.annotate(
                f"{missing} n/a", (1, row), (3, 0), ("axes fraction", "data"), "offset points", color=TEXT, va="center",
                fontsize=6.5, annotation_clip=False,
            )  # fmt: skip
    axes.margins(x=0.08)
    axes.set_ylim(count - 0.5, -0.5)  # the first structure at the top
    axes.set_title(heading, fontsize=8, color=LINE, pad=4)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", color=GRID)
    axes.tick_params(length=0, labelcolor=TEXT)


def _spread(count: int) -> Array:
    """Returns offsets in [-1, 1] that keep dots of neighboring cases apart; the same ones each time."""
    return np.modf(np.arange(count) * 0.618034)[0] * 2 - 1
