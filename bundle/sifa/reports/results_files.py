"""Writes the results of an evaluation: CSV, JSON, tables in Markdown and LaTeX, box plots."""

from __future__ import annotations

from pathlib import Path

from sifa.metrics.metric_list import MAIN, metrics_at
from sifa.metrics.results import Results, to_csv, to_detailed_json
from sifa.metrics.summary import Bootstrap
from sifa.reports.box_plots import write_box_plots
from sifa.reports.results_tables import full_table, results_latex, results_markdown, short_table
from sifa.utils.files import write_json, write_text, writing


def write_results(
    results: Results, output_dir: Path, tolerance_mm: float, bootstrap: Bootstrap, name: str = "results"
) -> None:
    """Writes `<name>.csv`, `.json`, `.md`, `.tex`, and the figure `<name>_box_plots` as `.svg` and `.png`.

    Args:
        results: with the metrics of `metrics_at(tolerance_mm)`.
        output_dir: folder of the files.
        tolerance_mm: of the normalized surface Dice.
        bootstrap: how intervals of means are computed.
        name: of the files.

    Raises:
        InputError: when they cannot be written.
    """
    metrics, summaries = metrics_at(tolerance_mm), results.summaries(bootstrap)
    short = short_table(results, summaries, metrics)
    full = full_table(results, summaries, list(metrics.values()), bootstrap)
    main = full_table(results, summaries, [metrics[metric] for metric in MAIN], bootstrap)
    with writing(output_dir / name):
        write_text(output_dir / f"{name}.csv", to_csv(results))
        write_json(output_dir / f"{name}.json", to_detailed_json(results, summaries, bootstrap, tolerance_mm))
        write_text(output_dir / f"{name}.md", results_markdown(short, full, results))
        write_text(output_dir / f"{name}.tex", results_latex(short, main))
        write_box_plots(output_dir, f"{name}_box_plots", results)
