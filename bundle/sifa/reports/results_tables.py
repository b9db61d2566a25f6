"""Tables of results for a paper: a short one of the main metrics, and one of all metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sifa.metrics.metric_list import MAIN, Metric
from sifa.metrics.results import Results, Summaries, as_text
from sifa.metrics.summary import Bootstrap, Summary
from sifa.reports.text_tables import PREAMBLE, TextTable, escape_markdown, to_latex, to_markdown

MEAN = "mean"  # the row of all structures together


def short_table(results: Results, summaries: Summaries, metrics: Mapping[str, Metric]) -> TextTable:
    """Returns mean and standard deviation of the main metrics, a row for each structure and one of their means."""
    rows = [
        [structure, *(mean_and_sd(summaries[name][0][column], metrics[name].digits) for name in MAIN)]
        for column, structure in enumerate(results.structures)
    ]
    rows.append([MEAN, *(mean_and_sd(summaries[name][1], metrics[name].digits, marked=False) for name in MAIN)])
    return TextTable(
        headings=["structure", *(metrics[name].heading for name in MAIN)],
        rows=rows,
        caption=f"Mean ± standard deviation over {_cases(results)}. {_not_available(results)}",
        groups=[len(results.structures)],
    )


def full_table(results: Results, summaries: Summaries, metrics: Sequence[Metric], bootstrap: Bootstrap) -> TextTable:
    """Returns all statistics of several metrics, a row for each metric and structure."""
    rows = [
        [metric.heading, structure, *_statistics(summary, metric.digits)]
        for metric in metrics
        for structure, summary in zip(
            (*results.structures, MEAN), (*summaries[metric.name][0], summaries[metric.name][1]), strict=True
        )
    ]
    share = f"{100 * bootstrap.confidence:g} %"
    return TextTable(
        headings=["metric", "structure", "mean", "SD", "median", f"{share} interval", "n", "n/a"],
        rows=rows,
        caption=(
            f"Statistics over {_cases(results)}. {share} interval of the mean by percentile bootstrap over cases "
            f"({bootstrap.resamples:d} resamples, seed {bootstrap.seed:d}); n: cases in which the metric is available. "
            "In the rows of all structures, the mean is that of the structures' means, and SD, median and n are those "
            "of the cases' means."
        ),
        text_columns=2,
        groups=range(len(results.structures) + 1, len(rows), len(results.structures) + 1),
    )


def results_markdown(short: TextTable, full: TextTable, results: Results) -> str:
    """Returns the content of `results.md`: both tables, the structures that a mask lacks, and the failed cases."""
    parts = ["# Results\n", to_markdown(short), "## All metrics\n", to_markdown(full)]
    absent = [
        "- " + escape_markdown(f"{structure}, {note}: {', '.join(cases)}")
        for structure, notes in results.absent().items()
        for note, cases in notes.items()
    ]
    if absent:
        parts.append("## Structures that a mask lacks\n\n" + "\n".join(absent) + "\n")
    if results.failed:
        failed = ["- " + escape_markdown(f"{case}: {reason}") for case, reason in results.failed.items()]
        parts.append("## Cases that could not be measured\n\n" + "\n".join(failed) + "\n")
    return "\n".join(parts)


def results_latex(short: TextTable, full: TextTable) -> str:
    """Returns the content of `results.tex`: both tables."""
    return "\n".join((PREAMBLE, to_latex(short, "tab:results"), to_latex(full, "tab:statistics")))


def interval_text(interval: tuple[float, float], digits: int) -> str:
    """Returns an interval for a table; `n/a` where there is none."""
    low, high = interval
    return "n/a" if math.isnan(low) else f"[{as_text(low, digits)}, {as_text(high, digits)}]"


def mean_and_sd(summary: Summary, digits: int, marked: bool = True) -> str:
    """Returns mean and sample standard deviation as text.

    Args:
        summary: of a structure, or of all together.
        digits: after the decimal point.
        marked: whether the number of values that are not available is added.
    """
    text = as_text(summary.mean, digits)
    if not math.isnan(summary.sd):
        text += f" ± {summary.sd:.{digits}f}"
    return f"{text} ({summary.not_available} n/a)" if marked and summary.not_available else text


def _statistics(summary: Summary, digits: int) -> list[str]:
    numbers = [as_text(value, digits) for value in (summary.mean, summary.sd, summary.median)]
    return [*numbers, interval_text(summary.interval, digits), str(summary.cases), str(summary.not_available)]


def _cases(results: Results) -> str:
    measured = f"{len(results.cases)} case{'s' * (len(results.cases) != 1)}"
    failed = len(results.failed)
    return f"{measured}; {failed} more could not be measured" if failed else measured


def _not_available(results: Results) -> str:
    if not results.absent():
        return "Both masks of every case have every structure."
    return (
        "(k n/a): not available in k cases, since the prediction or the truth lacks the structure; Dice and NSD are 0 "
        "where only the prediction lacks it."
    )
