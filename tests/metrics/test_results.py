"""Results as files: CSV and JSON, what is noted where a mask lacks a structure, and reading them again."""

from __future__ import annotations

import csv
import json
import math
import statistics
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import refusal
from sifa.metrics.results import Results, as_text, read_results, to_csv, to_detailed_json, to_json
from sifa.metrics.summary import Bootstrap

NAN = math.nan
BOOTSTRAP = Bootstrap(200)


def small_results(failed: dict[str, str] | None = None) -> Results:
    """Three cases of two structures: one prediction is empty, one truth, and one pair of masks."""
    values = {
        "mean_dice": [[80.0, 90.0], [0.0, NAN], [60.0, NAN]],
        "hd95_mm": [[4.0, 3.0], [NAN, NAN], [6.0, NAN]],
        "predicted_volume_ml": [[10.0, 5.0], [0.0, 2.0], [8.0, 0.0]],
        "true_volume_ml": [[9.0, 5.0], [7.0, 0.0], [8.0, 0.0]],
    }
    headings = {name: name.upper() for name in values}
    arrays = {name: np.array(table) for name, table in values.items()}
    return Results(["a", "b", "c"], ["liver", "spleen"], headings, arrays, failed or {})


def written(results: Results, path: Path) -> Path:
    """Writes results.json as the evaluation does."""
    content = to_detailed_json(results, results.summaries(BOOTSTRAP), BOOTSTRAP, 2.0)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_csv_has_a_row_for_each_case_and_structure_and_says_which_mask_is_empty() -> None:
    rows = list(csv.DictReader(StringIO(to_csv(small_results()))))

    assert list(rows[0])[:3] == ["volume", "structure", "mean_dice"]
    assert [(row["volume"], row["structure"]) for row in rows] == [
        (case, structure) for case in "abc" for structure in ("liver", "spleen")
    ]
    assert [row["mean_dice"] for row in rows] == ["80.000000", "90.000000", "0.000000", "n/a", "60.000000", "n/a"]
    assert [row["note"] for row in rows] == ["", "", "prediction empty", "truth empty", "", "both empty"]


def test_the_json_keeps_the_keys_of_earlier_versions_and_adds_statistics() -> None:
    results = small_results({"d": "no mask"})

    content = to_detailed_json(results, results.summaries(BOOTSTRAP), BOOTSTRAP, 2.0)

    dice = content["metrics"]["mean_dice"]
    assert content["volumes"] == ["a", "b", "c"]
    assert (dice["heading"], dice["mean"]) == ("MEAN_DICE", round((140 / 3 + 90) / 2, 6))
    liver, spleen = dice["structures"]["liver"], dice["structures"]["spleen"]
    assert liver["volumes"] == [80, 0, 60]
    assert (liver["mean"], liver["not_available"]) == (pytest.approx(140 / 3, abs=1e-5), 0)
    assert liver["std"] == pytest.approx(statistics.pstdev([80, 0, 60]), abs=1e-5)  # as before
    assert liver["sd"] == pytest.approx(statistics.stdev([80, 0, 60]), abs=1e-5)
    assert (liver["median"], liver["cases"]) == (60, 3)
    assert liver["interval"][0] < liver["mean"] < liver["interval"][1]
    assert (spleen["not_available"], spleen["cases"], spleen["sd"], spleen["interval"]) == (2, 1, None, None)
    assert content["tolerance_mm"] == 2
    assert content["intervals"]["resamples"] == 200
    assert content["failed"] == {"d": "no mask"}
    assert content["absent"] == {
        "liver": {"prediction empty": ["b"]},
        "spleen": {"truth empty": ["b"], "both empty": ["c"]},
    }
    json.dumps(content, allow_nan=False)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = small_results({"d": "no mask"})

    for path in (written(results, tmp_path / "results.json"), tmp_path):  # the file or its folder
        again = read_results(path)

        assert (again.cases, again.structures) == (results.cases, results.structures)
        assert (again.headings, again.failed) == (results.headings, results.failed)
        for name, table in results.values.items():
            assert np.array_equal(again.values[name], table, equal_nan=True)


def test_results_of_earlier_versions_are_read(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(to_json(small_results())), encoding="utf-8")

    assert read_results(tmp_path).values["mean_dice"][2, 0] == 60


BAD: dict[str, Any] = {
    "no JSON": "{",
    "a list": [],
    "another file": {"cases": []},
    "no metric": {"volumes": [], "metrics": {}},
    "a missing value": {
        "volumes": ["a", "b"],
        "metrics": {"mean_dice": {"heading": "Dice (%)", "structures": {"liver": {"volumes": [1.0]}}}},
    },
    "text in the place of a number": {
        "volumes": ["a"],
        "metrics": {"mean_dice": {"heading": "Dice (%)", "structures": {"liver": {"volumes": ["much"]}}}},
    },
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_other_files_are_refused_by_name(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    assert str(path) in refusal(lambda: read_results(path))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    assert str(tmp_path / "results.json") in refusal(lambda: read_results(tmp_path))


@pytest.mark.parametrize(
    ("value", "text"), [(NAN, "n/a"), (-0.001, "0.00"), (-0.01, "-0.01"), (0.0, "0.00"), (10.0, "10.00")]
)
def test_numbers_in_tables_have_no_negative_zero(value: float, text: str) -> None:
    assert as_text(value) == text
