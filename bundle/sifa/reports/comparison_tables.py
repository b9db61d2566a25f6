"""The comparison of two results as rows for CSV and JSON, and as a table for Markdown and LaTeX."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from sifa.metrics.paired_comparison import PairedTest
from sifa.metrics.results import as_number, as_text
from sifa.reports.results_tables import interval_text
from sifa.reports.text_tables import TextTable

INTERVAL = "95 % interval"
ALL = "all"  # the row of all structures together


@dataclass(frozen=True)
class ComparedMetric:
    """The comparison of one metric.

    Args:
        name: of the metric.
        heading: in tables.
        digits: after the decimal point, in tables.
        structures: the test of each structure.
        overall: the test of the cases' means over structures.
    """

    name: str
    heading: str
    digits: int
    structures: Mapping[str, PairedTest]
    overall: PairedTest

    @property
    def rows(self) -> dict[str, PairedTest]:
        """The tests of all structures, then the overall one."""
        return {**self.structures, ALL: self.overall}


def comparison_json(first: str, second: str, cases: Sequence[str], metrics: Sequence[ComparedMetric]) -> dict[str, Any]:
    """Returns the content of `comparison.json`; differences are second minus first.

    Args:
        first: name of the first result.
        second: name of the second result.
        cases: that both have.
        metrics: their comparison.
    """
    return {
        "first": first,
        "second": second,
        "cases": list(cases),
        "test": "Wilcoxon signed-rank, two-sided; Holm's correction over the structures of a metric",
        "metrics": {
            metric.name: {
                "heading": metric.heading,
                "overall": _entry(metric.overall),
                "structures": {name: _entry(test) for name, test in metric.structures.items()},
            }
            for metric in metrics
        },
    }


def comparison_csv(metrics: Sequence[ComparedMetric]) -> str:
    """Returns a row for each metric, of which there is at least one, and structure."""
    rows = [
        {"metric": metric.name, "structure": structure, **_entry(test)}
        for metric in metrics
        for structure, test in metric.rows.items()
    ]
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(["n/a" if cell is None else cell for cell in row.values()] for row in rows)
    return stream.getvalue()


def comparison_table(first: str, second: str, cases: int, metrics: Sequence[ComparedMetric]) -> TextTable:
    """Returns the table of a comparison, a row for each metric and structure, with its notes in the caption.

    Args:
        first: name of the first result.
        second: name of the second result.
        cases: how many both have.
        metrics: their comparison.
    """
    tests = [(metric, name, test) for metric in metrics for name, test in metric.rows.items()]
    notes = list(dict.fromkeys(test.note for _, _, test in tests if test.note))
    marks = {note: number for number, note in enumerate(notes, start=1)}
    explained = "".join(f" ({mark}) {note}." for note, mark in marks.items())
    groups = [number for number, (_, name, _) in enumerate(tests) if name == ALL]
    return TextTable(
        headings=["metric", "structure", "pairs", first, second, "median difference", INTERVAL, "p", "p (Holm)"],
        rows=[_cells(metric, name, test, marks) for metric, name, test in tests],
        caption=(
            f"Paired comparison on {cases} case{'s' * (cases != 1)}: means of both, median of the differences "
            f"({second} minus {first}) with its interval from order statistics, and two-sided Wilcoxon signed-rank "
            f"tests with Holm's correction over the structures of a metric. The row {ALL} is about the cases' means "
            "over structures and has no correction. Pairs: cases in which both values are available; (n/a: i, j): not "
            f"available in i cases of {first} and j of {second}.{explained}"
        ),
        text_columns=2,
        groups=[group + 1 for group in groups[:-1]],
    )


def p_text(p: float) -> str:
    """Returns a p value for a table."""
    return "n/a" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _cells(metric: ComparedMetric, name: str, test: PairedTest, marks: Mapping[str, int]) -> list[str]:
    mark, missing = f" ({marks[test.note]})" if test.note else "", test.not_available
    return [
        metric.heading,
        name,
        str(test.pairs) + (f" (n/a: {missing[0]}, {missing[1]})" if any(missing) else ""),
        *(as_text(mean, metric.digits) for mean in test.means),
        as_text(test.median_difference, metric.digits),
        interval_text(test.interval, metric.digits),
        p_text(test.p) + mark,
        "" if name == ALL else p_text(test.adjusted_p),
    ]


def _entry(test: PairedTest) -> dict[str, Any]:
    return {
        "pairs": test.pairs,
        "pairs_that_differ": test.differing,
        "not_available_first": test.not_available[0],
        "not_available_second": test.not_available[1],
        "mean_first": as_number(test.means[0]),
        "mean_second": as_number(test.means[1]),
        "median_difference": as_number(test.median_difference),
        "interval_low": as_number(test.interval[0]),
        "interval_high": as_number(test.interval[1]),
        "p": _exact(test.p),
        "p_holm": _exact(test.adjusted_p),
        "note": test.note,
    }


def _exact(p: float) -> float | None:
    return None if math.isnan(p) else float(f"{p:.6g}")
