"""Makes the tables of the benchmark: means and standard deviations over seeds, on screen, as CSV and as Markdown."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from document_tables import markdown, put_text, split_at
from rich.console import Console
from rich.table import Table

METRICS = {"dice": "mean_dice", "asd_voxels": "surface_distance_voxels", "asd_mm": "surface_distance_mm"}

Results = Mapping[int, Mapping[str, Any]]  # seed to the content of a cell's result.json
Row = dict[str, Any]


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Returns mean and sample standard deviation of the measured values; None if there are too few."""
    measured = [value for value in values if value is not None]
    return {
        "mean": round(statistics.fmean(measured), 4) if measured else None,
        "std": round(statistics.stdev(measured), 4) if len(measured) > 1 else None,
    }


def share_of_gap(method: Results, lower: Results, upper: Results) -> dict[str, float | None]:
    """Returns (method - lower) / (upper - lower) of mean Dice, averaged over the seeds that all three have."""
    shares = []
    for seed in method.keys() & lower.keys() & upper.keys():
        own, low, high = (results[seed]["metrics"]["mean_dice"]["mean"] for results in (method, lower, upper))
        if None not in (own, low, high) and high != low:
            shares.append((own - low) / (high - low))
    return spread(shares)


def summarize(results: Results, lower: Results, upper: Results) -> Row:
    """Returns the figures of a method on a data set.

    Args:
        results: results of the method; empty if no cell is complete.
        lower: results of the method whose share of the gap is 0.
        upper: results of the method whose share is 1; empty if there are none.
    """
    row: Row = {
        "seeds": sorted(results),
        "volumes": max((len(result["volumes"]) for result in results.values()), default=0),  # of one seed
        "gap": share_of_gap(results, lower, upper),
        "minutes": spread([result["training_seconds"] / 60 for result in results.values()]),
        "tmac": spread([result.get("tmac") for result in results.values()]),
        "gate_open": spread([result.get("gate_open") for result in results.values()]),
    }
    for name, metric in METRICS.items():
        measured = [result["metrics"][metric] for result in results.values()]
        structures = list(measured[0]["structures"]) if measured else []
        row[name] = {
            **spread([one["mean"] for one in measured]),
            "not_available": sum(part["not_available"] for one in measured for part in one["structures"].values()),
            "structures": {
                structure: {
                    **spread([one["structures"][structure]["mean"] for one in measured]),
                    "not_available": sum(one["structures"][structure]["not_available"] for one in measured),
                }
                for structure in structures
            },
        }
    return row


def table(rows: Mapping[str, Row], labels: Mapping[str, str]) -> list[list[str]]:
    """Returns the cells of a table, headings first.

    Args:
        rows: output of `summarize` for each method.
        labels: name of each method in the table.
    """
    structures = list(dict.fromkeys(name for row in rows.values() for name in row["dice"]["structures"]))
    headings = ["method", *structures, "mean Dice (%)", "ASD (voxels)", "ASD (mm)", "n/a", "gap recovered (%)"]
    has_gate = any(row["gate_open"]["mean"] is not None for row in rows.values())
    has_paper = any(row.get("paper") is not None for row in rows.values())
    gate_heading = ["gate open (%)"] if has_gate else []
    paper_heading = ["paper, other data (%)"] if has_paper else []
    lines = [[*headings, *gate_heading, "training (min)", "T MAC", "scans", "seeds", *paper_heading]]
    for method, row in rows.items():
        dice, gap = row["dice"], row["gap"]
        percent = {key: None if value is None else 100 * value for key, value in gap.items()}
        parts = [as_text(dice["structures"].get(name, {})) for name in structures]
        distances = [as_text(row[name], 2) for name in ("asd_voxels", "asd_mm")]
        missing = str(row["asd_mm"]["not_available"])
        minutes, work = as_text({"mean": row["minutes"]["mean"]}), as_text({"mean": row["tmac"]["mean"]})
        gate = [_percent(row["gate_open"]["mean"])] if has_gate else []
        paper = [_text(row.get("paper"))] if has_paper else []
        counts = [str(row["volumes"]), str(len(row["seeds"]))]
        measured = [*parts, as_text(dice), *distances, missing, as_text(percent, 0)]
        lines.append([labels[method], *measured, *gate, minutes, work, *counts, *paper])
    return lines


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}"


def _text(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.1f}"


def as_text(value: Mapping[str, float | None], digits: int = 1) -> str:
    """Returns mean and standard deviation as text for a table."""
    mean, deviation = value.get("mean"), value.get("std")
    if mean is None:
        return "n/a"
    return f"{mean:.{digits}f}" if deviation is None else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def show(title: str, lines: Sequence[Sequence[str]], console: Console) -> None:
    """Prints a table."""
    shown = Table(title=title, caption="± standard deviation over seeds; n/a: distances that could not be measured")
    for column, heading in enumerate(lines[0]):
        shown.add_column(heading, justify="right" if column else "left", min_width=0 if column else 30)
    for line in lines[1:]:
        shown.add_row(*line)
    console.print(shown)


def as_csv(datasets: Mapping[str, Mapping[str, Row]]) -> str:
    """Returns CSV text with a row for each data set, method, quantity and structure."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["dataset", "method", "quantity", "structure", "mean", "std", "not_available", "seeds"])
    for dataset, rows in datasets.items():
        for method, row in rows.items():
            for quantity, structure, value in _quantities(row):
                figures = [value["mean"], value["std"], value.get("not_available", "")]
                writer.writerow([dataset, method, quantity, structure, *figures, len(row["seeds"])])
    return stream.getvalue()


def _quantities(row: Row) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for quantity in METRICS:
        yield from ((quantity, structure, value) for structure, value in row[quantity]["structures"].items())
        yield quantity, "mean", row[quantity]
    yield "gap", "mean", row["gap"]
    yield "minutes", "", row["minutes"]
    yield "tmac", "", row["tmac"]
    yield "gate_open", "", row["gate_open"]


def require_table(document: Path, name: str) -> None:
    """Refuses a document without the two comments of the named table.

    Raises:
        InputError: when it has none.
    """
    split_at(document, f"benchmark {name}", ", or choose other --datasets or --groups")


def replace_table(document: Path, name: str, lines: Sequence[Sequence[str]]) -> None:
    """Replaces the table between its two comments in a document.

    Raises:
        InputError: when the document has no such comments.
    """
    put_text(document, f"benchmark {name}", markdown(lines))
