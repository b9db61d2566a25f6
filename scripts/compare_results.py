"""Compares two results of the same cases: Wilcoxon signed-rank tests, Holm's correction, median differences.

    python scripts/compare_results.py A/results.json B/results.json [--output_dir comparison]

Both files are those of `run evaluating` or of scripts/evaluate_masks.py. Writes comparison.csv, comparison.json,
comparison.md and comparison.tex. Differences are B minus A. bundle/docs/evaluation.md describes the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from command_line import run_command_line
from mask_pairs import case_name
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sifa.metrics.metric_list import MAIN, TRUE_VOLUME, Metric, metrics_at
from sifa.metrics.paired_comparison import compare_overall, compare_structures
from sifa.metrics.results import Results, read_results
from sifa.reports.comparison_tables import INTERVAL, ComparedMetric, comparison_csv, comparison_json, comparison_table
from sifa.reports.text_tables import PREAMBLE, TextTable, to_latex, to_markdown
from sifa.utils.errors import InputError
from sifa.utils.files import write_json, write_text, writing
from sifa.utils.options import require_switches
from sifa.utils.paths import require_writable

TITLE = "# Comparison\n"
SAME_TRUTH = 1e-3  # share by which the true volumes of a structure may differ and still be of one label
LISTED = 5  # names in a message


def main(
    first: str,
    second: str,
    *,
    output_dir: str = "comparison",
    metrics: Any = None,
    names: Any = None,
    common_cases: bool = False,
) -> None:
    """Compares the results of two methods on the same cases.

    Args:
        first: results.json of the first method, or its folder.
        second: results.json of the second method, or its folder.
        output_dir: folder to write to.
        metrics: names of metrics as in results.json, separated by commas; by default Dice, NSD, surface distance and
            HD95.
        names: names of both methods for the tables, separated by a comma; by default those of the folders.
        common_cases: True compares the cases that both have and names the others.
    """
    require_switches(common_cases=common_cases)
    paths = Path(str(first)), Path(str(second))
    titles = method_names(names, paths)
    one, other = (by_case_name(read_results(path), path) for path in paths)
    require_same_structures(one, other, paths)
    chosen = choose_metrics(metrics, one, other, paths)
    one, other = on_same_cases(one, other, paths, common_cases)
    require_same_truth(one, other, paths)
    require_writable(Path(str(output_dir)))
    compared = [compare(metric, one, other) for metric in chosen]
    table = comparison_table(*titles, len(one.cases), compared)
    show(table)
    folder = Path(str(output_dir))
    with writing(folder):
        write_text(folder / "comparison.csv", comparison_csv(compared))
        write_json(folder / "comparison.json", comparison_json(*titles, one.cases, compared))
        write_text(folder / "comparison.md", f"{TITLE}\n{to_markdown(table)}")
        write_text(folder / "comparison.tex", f"{PREAMBLE}\n{to_latex(table, 'tab:comparison')}")


def method_names(names: Any, paths: Sequence[Path]) -> tuple[str, str]:
    """Returns two names for tables: those of `--names`, or of the folders, or the paths where these are alike.

    Raises:
        InputError: when there are not two different names.
    """
    if names is not None:
        given = [str(name).strip() for name in (names if isinstance(names, list | tuple) else str(names).split(","))]
        if len(given) != 2 or given[0] == given[1] or "" in given:
            raise InputError(f"--names {names}: give two different names, such as --names SIFA,source-only.")
        return given[0], given[1]
    folders = [(path if path.is_dir() else path.absolute().parent).name for path in paths]
    return (folders[0], folders[1]) if folders[0] != folders[1] else (str(paths[0]), str(paths[1]))


def by_case_name(results: Results, path: Path) -> Results:
    """Returns results whose cases are named without the endings of files.

    Raises:
        InputError: when two cases then have one name.
    """
    cases = [case_name(case) for case in results.cases]
    twice = sorted({case for case in cases if cases.count(case) > 1})
    if twice:
        raise InputError(f"{path}: it has the case {twice[0]} more than once: measure each case once.")
    failed = {case_name(case): reason for case, reason in results.failed.items()}
    return Results(cases, results.structures, results.headings, results.values, failed)


def require_same_structures(one: Results, other: Results, paths: Sequence[Path]) -> None:
    """Refuses results of different structures.

    Raises:
        InputError: with the structures that one of them lacks.
    """
    only = _only(one.structures, other.structures, paths)
    if only:
        raise InputError(f"the results are of different structures: {only}: measure both with the same structures.")


def choose_metrics(names: Any, one: Results, other: Results, paths: Sequence[Path]) -> list[Metric]:
    """Returns the metrics to compare.

    Raises:
        InputError: when one of them cannot be compared, is missing, or was measured differently.
    """
    known = {name: metric for name, metric in metrics_at(0).items() if metric.better is not None}
    asked = [] if names is None else names if isinstance(names, list | tuple) else str(names).split(",")
    chosen = [str(name).strip() for name in asked]
    for name in chosen:
        if name not in known:
            raise InputError(f"--metrics {name}: there is no such metric to compare: choose from {', '.join(known)}.")
        for results, path in zip((one, other), paths, strict=True):
            if name not in results.values:
                raise InputError(f"{path}: it has no {name}: evaluate again with this version, or compare others.")
    chosen = chosen or [name for name in MAIN if name in one.values and name in other.values]
    if not chosen:
        raise InputError(f"{paths[0]} and {paths[1]}: they have no metric in common: evaluate both again.")
    for name in chosen:
        headings = one.headings[name], other.headings[name]
        if headings[0] != headings[1]:
            raise InputError(
                f"{name} is {headings[0]} in {paths[0]} and {headings[1]} in {paths[1]}: measure both with the same "
                "--tolerance_mm, or compare others with --metrics."
            )
    return [Metric(name, one.headings[name], known[name].digits, known[name].better) for name in chosen]


def on_same_cases(one: Results, other: Results, paths: Sequence[Path], common_cases: bool) -> tuple[Results, Results]:
    """Returns both results with the same cases in the same order.

    Raises:
        InputError: when a case is missing in one of them and `common_cases` is False, or no case is in both.
    """
    only = _only(one.cases, other.cases, paths)
    if only and not common_cases:
        raise InputError(
            f"the results are of different cases: {only}: measure both on the same cases, or compare those that both "
            "have with --common_cases True."
        )
    cases = [case for case in one.cases if case in other.cases]
    if not cases:
        raise InputError(f"{paths[0]} and {paths[1]}: they have no case in common: measure both on the same cases.")
    if only:
        print(f"Left out: {only}.")
    return _reordered(one, cases, one.structures), _reordered(other, cases, one.structures)


def require_same_truth(one: Results, other: Results, paths: Sequence[Path]) -> None:
    """Refuses results that were measured on different labels, as far as true volumes tell.

    Raises:
        InputError: with the first case and structure whose true volumes differ.
    """
    if TRUE_VOLUME not in one.values or TRUE_VOLUME not in other.values:
        return
    volumes = one.values[TRUE_VOLUME], other.values[TRUE_VOLUME]
    differing = np.argwhere(~np.isclose(*volumes, rtol=SAME_TRUTH, atol=1e-5))
    if len(differing):
        row, column = differing[0]
        raise InputError(
            f"the results are of different labels: {one.structures[column]} of {one.cases[row]} has "
            f"{volumes[0][row, column]:g} ml in {paths[0]} and {volumes[1][row, column]:g} ml in {paths[1]}: measure "
            "both on the same labels."
        )


def compare(metric: Metric, one: Results, other: Results) -> ComparedMetric:
    """Returns the comparison of a metric; of one that is better the nearer it is to 0, absolute values are compared."""
    first, second = one.values[metric.name], other.values[metric.name]
    heading = metric.heading
    if metric.better == "zero":
        first, second, heading = np.abs(first), np.abs(second), f"absolute {heading}"
    tests = dict(zip(one.structures, compare_structures(first, second), strict=True))
    return ComparedMetric(metric.name, heading, metric.digits, tests, compare_overall(first, second))


def show(table: TextTable) -> None:
    """Prints the comparison without intervals, a table for each metric; terminals are narrow."""
    console = Console()
    kept = [column for column, heading in enumerate(table.headings) if column > 0 and heading != INTERVAL]
    for metric in dict.fromkeys(row[0] for row in table.rows):
        shown = Table(title=escape(metric))
        for column in kept:
            shown.add_column(escape(table.headings[column]), justify="left" if column < table.text_columns else "right")
        for row in table.rows:
            if row[0] == metric:
                shown.add_row(*(escape(row[column]) for column in kept))
        console.print(shown)
    console.print(escape(table.caption), highlight=False)


def _reordered(results: Results, cases: Sequence[str], structures: Sequence[str]) -> Results:
    rows = [list(results.cases).index(case) for case in cases]
    columns = [list(results.structures).index(structure) for structure in structures]
    values = {name: table[np.ix_(rows, columns)] for name, table in results.values.items()}
    return Results(cases, structures, results.headings, values)


def _only(ours: Sequence[str], theirs: Sequence[str], paths: Sequence[Path]) -> str:
    """Returns which names are in one of two lists only, as text; empty where both are alike."""
    parts = []
    for names, others, path in ((ours, theirs, paths[0]), (theirs, ours, paths[1])):
        missing = [name for name in names if name not in others]
        if missing:
            listed = ", ".join(missing[:LISTED]) + (
                f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
            )
            parts.append(f"only {path} has {listed}")
    return "; ".join(parts)


if __name__ == "__main__":
    run_command_line(main)
