"""The results of an evaluation: a value for each metric, case and structure, as JSON and CSV, and back."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sifa.metrics import metric_list as names
from sifa.metrics.summary import Bootstrap, Summary, mean_of_measured, mean_of_structures, summarize
from sifa.utils.errors import InputError

Array = npt.NDArray[np.float64]

Summaries = Mapping[str, tuple[Sequence[Summary], Summary]]  # by metric: of each structure, and of all together

DECIMALS = 6  # of numbers in files
ABSENT = ("prediction empty", "truth empty", "both empty")


@dataclass(frozen=True)
class Results:
    """Values of all metrics.

    Args:
        cases: their names.
        structures: their names.
        headings: heading of each metric in tables.
        values: (cases, structures) of each metric, NaN where it is not available.
        failed: cases that could not be measured, with the reason.
        weights_sha256: of the `model.pt` that made the masks; None: unknown.
    """

    cases: Sequence[str]
    structures: Sequence[str]
    headings: Mapping[str, str]
    values: Mapping[str, Array]
    failed: Mapping[str, str] = field(default_factory=dict)
    weights_sha256: str | None = None

    @classmethod
    def of_cases(
        cls,
        measured: Mapping[str, Mapping[str, Sequence[float]]],
        structures: Mapping[int, str],
        tolerance_mm: float,
        failed: Mapping[str, str] | None = None,
        weights_sha256: str | None = None,
    ) -> Results:
        """Returns the results of cases that were measured one by one.

        Args:
            measured: what `measure_case` returned for each case, for the structures in ascending order of their values.
            structures: names by label value.
            tolerance_mm: of the normalized surface Dice.
            failed: cases that could not be measured, with the reason.
            weights_sha256: of the `model.pt` that made the masks; None: unknown.
        """
        metrics = names.metrics_at(tolerance_mm)
        return cls(
            cases=list(measured),
            structures=[structures[value] for value in sorted(structures)],
            headings={name: metric.heading for name, metric in metrics.items()},
            values={name: np.array([case[name] for case in measured.values()]) for name in metrics},
            failed=failed or {},
            weights_sha256=weights_sha256,
        )

    def note(self, case: int, structure: int) -> str:
        """Returns which mask lacks a structure, one of `ABSENT`; empty where both have it, or volumes are unknown."""
        if names.TRUE_VOLUME not in self.values:
            return ""
        predicted, true = (self.values[name][case, structure] for name in (names.PREDICTED_VOLUME, names.TRUE_VOLUME))
        if predicted and true:
            return ""
        return ABSENT[0] if true else ABSENT[1] if predicted else ABSENT[2]

    def absent(self) -> dict[str, dict[str, list[str]]]:
        """Returns the cases by structure and note, for the structures that a mask lacks."""
        found: dict[str, dict[str, list[str]]] = {}
        for column, structure in enumerate(self.structures):
            for row, case in enumerate(self.cases):
                if note := self.note(row, column):
                    found.setdefault(structure, {}).setdefault(note, []).append(case)
        return found

    def summaries(self, bootstrap: Bootstrap) -> Summaries:
        """Returns the summary of each structure and of all structures together, for each metric."""
        return {name: summarize(table, bootstrap) for name, table in self.values.items()}


def to_csv(results: Results) -> str:
    """Returns a row for each case and structure; with a note where a mask lacks the structure, if volumes are known."""
    has_notes = names.TRUE_VOLUME in results.values
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["volume", "structure", *results.values, *(["note"] if has_notes else [])])
    for row, case in enumerate(results.cases):
        for column, structure in enumerate(results.structures):
            numbers = [as_text(table[row, column], DECIMALS) for table in results.values.values()]
            writer.writerow([case, structure, *numbers, *([results.note(row, column)] if has_notes else [])])
    return stream.getvalue()


def to_json(results: Results) -> dict[str, Any]:
    """Returns means, standard deviations (n in the denominator), counts of missing values and all values."""
    return {
        "volumes": list(results.cases),
        "metrics": {
            metric: {
                "heading": results.headings[metric],
                "mean": as_number(mean_of_structures(table)),
                "structures": {
                    structure: {
                        "mean": as_number(mean_of_measured(column)),
                        "std": as_number(_std(column)),
                        "not_available": int(np.isnan(column).sum()),
                        "volumes": [as_number(value) for value in column],
                    }
                    for structure, column in zip(results.structures, table.T, strict=True)
                },
            }
            for metric, table in results.values.items()
        },
    }


def to_detailed_json(
    results: Results, summaries: Summaries, bootstrap: Bootstrap, tolerance_mm: float
) -> dict[str, Any]:
    """Returns `to_json` with sample standard deviations, medians, intervals, absent structures and failed cases.

    Args:
        results: of all cases.
        summaries: of the results.
        bootstrap: how intervals are computed.
        tolerance_mm: of the normalized surface Dice, for the record.
    """
    content = to_json(results)
    for metric, (structures, overall) in summaries.items():
        entry = content["metrics"][metric]
        entry.update(_details(overall))
        for name, summary in zip(results.structures, structures, strict=True):
            entry["structures"][name].update(_details(summary))
    return {
        **content,
        **({} if results.weights_sha256 is None else {"weights_sha256": results.weights_sha256}),
        "tolerance_mm": tolerance_mm,
        "intervals": {
            "of": "mean over cases",
            "confidence": bootstrap.confidence,
            "method": "percentile bootstrap",
            "resamples": bootstrap.resamples,
            "random_seed": bootstrap.seed,
        },
        "absent": results.absent(),
        "failed": dict(results.failed),
    }


def read_results(path: Path) -> Results:
    """Reads a `results.json` of `run evaluating` or `evaluate_masks.py`; what can be computed from values is not read.

    Raises:
        InputError: when it is missing or is not such a file.
    """
    if path.is_dir():
        path /= "results.json"
    if not path.is_file():
        raise InputError(f"{path}: there is no such file: give a results.json of run evaluating or evaluate_masks.py.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _from_json(content)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise InputError(
            f"{path}: it is not a results.json of run evaluating or evaluate_masks.py: give one of those."
        ) from error


def as_number(value: float) -> float | None:
    """Returns a number for JSON; None for NaN."""
    return None if math.isnan(value) else round(float(value), DECIMALS)


def as_text(value: float, digits: int = 2) -> str:
    """Returns a number for a table; `n/a` for NaN."""
    text = "n/a" if math.isnan(value) else f"{value:.{digits}f}"
    return text.removeprefix("-") if text.strip("-0.") == "" else text  # no -0.00


def _std(values: Array) -> float:
    measured = values[~np.isnan(values)]
    return float(measured.std()) if measured.size else math.nan


def _details(summary: Summary) -> dict[str, Any]:
    low, high = summary.interval
    return {
        "sd": as_number(summary.sd),
        "median": as_number(summary.median),
        "interval": None if math.isnan(low) else [as_number(low), as_number(high)],
        "cases": summary.cases,
    }


def _from_json(content: Mapping[str, Any]) -> Results:
    metrics = content["metrics"]
    cases = [str(case) for case in content["volumes"]]
    structures = list(next(iter(metrics.values()))["structures"])
    values = {
        name: np.array(
            [[math.nan if value is None else float(value) for value in metric["structures"][structure]["volumes"]]
             for structure in structures]
        ).reshape(len(structures), len(cases)).T
        for name, metric in metrics.items()
    }  # fmt: skip
    headings = {name: str(metric["heading"]) for name, metric in metrics.items()}
    failed, weights = dict(content.get("failed", {})), content.get("weights_sha256")
    return Results(cases, structures, headings, values, failed, None if weights is None else str(weights))
