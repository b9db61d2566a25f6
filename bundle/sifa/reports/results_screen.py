"""The table of results on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sifa.metrics.results import Results, as_text
from sifa.metrics.summary import mean_of_measured, mean_of_structures


def print_results(results: Results, title: str, metrics: Sequence[str] | None = None) -> None:
    """Prints the values of all cases, then the means with the number of values that are not available.

    Args:
        results: of all cases.
        title: of the table.
        metrics: the metrics to show; None: all.
    """
    shown = [results.values[metric] for metric in metrics or results.values]
    table = Table(title=title, caption="n/a: the prediction or the truth lacks the structure")
    table.add_column("volume")
    table.add_column("structure")
    for metric in metrics or results.values:
        table.add_column(results.headings[metric], justify="right")
    for row, case in enumerate(results.cases):
        for column, structure in enumerate(results.structures):
            table.add_row(escape(case), escape(structure), *(as_text(values[row, column]) for values in shown))
    table.add_section()
    for column, structure in enumerate(results.structures):
        table.add_row("mean", escape(structure), *(_mean_text(values[:, column]) for values in shown))
    table.add_row("mean", "all", *(as_text(mean_of_structures(values)) for values in shown))
    Console().print(table)


def _mean_text(values: npt.NDArray[np.float64]) -> str:
    missing = int(np.isnan(values).sum())
    return as_text(mean_of_measured(values)) + (f" ({missing} n/a)" if missing else "")
