"""scripts/compare_results.py, run as a user does: what it says about two results, and which pairs it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import assert_refused, read_json
from conftest import run_script
from sifa.metrics.metric_list import metrics_at
from sifa.metrics.paired_comparison import compare_overall, compare_structures
from sifa.metrics.results import Results, to_detailed_json, to_json
from sifa.metrics.summary import Bootstrap

STRUCTURES = ["liver", "spleen"]
CASES = [f"ct_{number}" for number in range(9)]


def some_results(seed: int, cases: list[str] | None = None) -> Results:
    """Returns results of all metrics; true volumes are those of every seed."""
    cases = CASES if cases is None else cases
    generator = np.random.default_rng(seed)
    values = {name: generator.normal(60, 10, (len(cases), 2)) for name in metrics_at(2)}
    values["true_volume_ml"] = np.arange(2.0 * len(cases)).reshape(-1, 2) + 5
    headings = {name: metric.heading for name, metric in metrics_at(2).items()}
    return Results(cases, STRUCTURES, headings, values)


def write(folder: Path, results: Results, change: Callable[[Any], Any] = lambda content: None) -> Path:
    """Writes results.json, changed by a function."""
    content = to_detailed_json(results, results.summaries(Bootstrap(20)), Bootstrap(20), 2.0)
    change(content)
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def compare(one: Path, other: Path, *options: str, check: bool = False) -> Any:
    output = f"--output_dir={one.parent / 'comparison'}"
    return run_script("compare_results.py", str(one), str(other), output, *options, check=check)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two results of the same cases."""
    return write(tmp_path / "sifa", some_results(0)), write(tmp_path / "source_only", some_results(1))


def test_tables_and_files_hold_the_tests_of_each_structure(pair: tuple[Path, Path]) -> None:
    result = compare(*pair, check=True)

    output = pair[0].parent / "comparison"
    assert sorted(path.name for path in output.iterdir()) == [
        f"comparison{ending}" for ending in (".csv", ".json", ".md", ".tex")
    ]
    content = read_json(output / "comparison.json")
    assert (content["first"], content["second"], content["cases"]) == ("sifa", "source_only", CASES)
    assert list(content["metrics"]) == ["mean_dice", "nsd", "surface_distance_mm", "hd95_mm"]
    for name, metric in content["metrics"].items():
        first, second = (np.round(some_results(seed).values[name], 6) for seed in (0, 1))
        tests = compare_structures(first, second)
        for structure, test in zip(STRUCTURES, tests, strict=True):
            entry = metric["structures"][structure]
            assert (entry["pairs"], entry["p"]) == (9, pytest.approx(test.p, rel=1e-5))
            assert entry["p_holm"] == pytest.approx(test.adjusted_p, rel=1e-5)
            assert entry["median_difference"] == pytest.approx(test.median_difference, abs=1e-5)
            assert (entry["interval_low"], entry["interval_high"]) == pytest.approx(test.interval, abs=1e-5)
        assert metric["overall"]["p"] == pytest.approx(compare_overall(first, second).p, rel=1e-5)
    rows = list(csv.DictReader((output / "comparison.csv").open(encoding="utf-8")))
    assert [row["structure"] for row in rows] == [*STRUCTURES, "all"] * 4
    assert "| Dice (%) | liver | 9 |" in (output / "comparison.md").read_text(encoding="utf-8")
    latex = (output / "comparison.tex").read_text(encoding="utf-8")
    assert r"source\_only" in latex
    assert latex.count(r"\midrule") == 4  # below the headings and between metrics
    assert "source_only minus sifa" in " ".join(result.stdout.split())


def test_files_and_folders_are_named_and_methods_may_have_other_names(pair: tuple[Path, Path]) -> None:
    compare(pair[0] / "results.json", pair[1] / "results.json", "--names", "SIFA, without adaptation", check=True)

    content = read_json(pair[0] / "comparison" / "comparison.json")
    assert (content["first"], content["second"]) == ("SIFA", "without adaptation")


def test_metrics_can_be_chosen_and_volume_differences_count_by_their_size(pair: tuple[Path, Path]) -> None:
    compare(*pair, "--metrics=recall,volume_difference_ml", check=True)

    metrics = read_json(pair[0].parent / "comparison" / "comparison.json")["metrics"]
    assert list(metrics) == ["recall", "volume_difference_ml"]
    assert metrics["volume_difference_ml"]["heading"] == "absolute volume difference (ml)"
    first, second = (np.abs(some_results(seed).values["volume_difference_ml"]) for seed in (0, 1))
    liver = metrics["volume_difference_ml"]["structures"]["liver"]
    assert liver["p"] == pytest.approx(compare_structures(first, second)[0].p, rel=1e-5)


def test_few_cases_get_a_sentence_and_no_p_value(tmp_path: Path) -> None:
    one, other = (write(tmp_path / str(seed), some_results(seed, CASES[:4])) for seed in (0, 1))

    result = compare(one, other, check=True)

    assert "4 pairs that differ cannot reach significance, 6 could" in " ".join(result.stdout.split())
    liver = read_json(tmp_path / "comparison" / "comparison.json")["metrics"]["mean_dice"]["structures"]["liver"]
    assert (liver["p"], liver["p_holm"]) == (None, None)
    assert "cannot reach significance" in liver["note"]


def test_values_that_one_method_lacks_are_counted_for_it(tmp_path: Path) -> None:
    def lacks(content: Any) -> None:
        content["metrics"]["hd95_mm"]["structures"]["spleen"]["volumes"][3] = None

    one, other = write(tmp_path / "one", some_results(0)), write(tmp_path / "other", some_results(1), lacks)

    compare(one, other, check=True)

    spleen = read_json(tmp_path / "comparison" / "comparison.json")["metrics"]["hd95_mm"]["structures"]["spleen"]
    assert (spleen["pairs"], spleen["not_available_first"], spleen["not_available_second"]) == (8, 0, 1)
    assert "8 (n/a: 0, 1)" in (tmp_path / "comparison" / "comparison.md").read_text(encoding="utf-8")


def test_order_of_cases_and_endings_of_their_names_do_not_matter(tmp_path: Path) -> None:
    one, other = some_results(0), some_results(1)
    turned = {name: table[::-1] for name, table in other.values.items()}
    named = [f"{case}.nii.gz" for case in reversed(CASES)]  # as `run evaluating` names them
    folders = [
        write(tmp_path / "one", one),
        write(tmp_path / "other", other),
        write(tmp_path / "turned", Results(named, STRUCTURES, other.headings, turned)),
    ]

    found = []
    for second in folders[1:]:
        compare(folders[0], second, "--names=a,b", check=True)
        found.append(read_json(tmp_path / "comparison" / "comparison.json"))

    assert found[0] == found[1]


def test_other_cases_are_refused_by_name_and_common_ones_compared_when_asked(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", some_results(0)), write(tmp_path / "two", some_results(1, CASES[:7]))

    assert_refused(compare(one, other), "only", "one has ct_7, ct_8", "--common_cases True")

    result = compare(one, other, "--common_cases=True", check=True)
    assert "Left out: " in result.stdout
    assert read_json(tmp_path / "comparison" / "comparison.json")["cases"] == CASES[:7]


def rename_structure(content: Any) -> None:
    for metric in content["metrics"].values():
        metric["structures"]["kidney"] = metric["structures"].pop("spleen")


def other_tolerance(content: Any) -> None:
    content["metrics"]["nsd"]["heading"] = "NSD at 3 mm (%)"


def other_truth(content: Any) -> None:
    content["metrics"]["true_volume_ml"]["structures"]["spleen"]["volumes"][2] *= 1.01


def other_cases(content: Any) -> None:
    content["volumes"] = [f"mr_{case}" for case in content["volumes"]]


def one_case_twice(content: Any) -> None:
    content["volumes"][1] = f"{content['volumes'][0]}.nii.gz"


@pytest.mark.parametrize(
    ("change", "options", "parts"),
    [
        (rename_structure, [], ["has spleen", "has kidney"]),
        (other_tolerance, [], ["NSD at 2 mm (%)", "NSD at 3 mm (%)"]),
        (other_truth, [], ["spleen of ct_2", "same labels"]),
        (other_cases, ["--common_cases=True"], ["no case in common"]),
        (one_case_twice, [], ["ct_0 more than once"]),
    ],
)
def test_results_that_are_not_comparable_are_refused_by_name(
    change: Callable[[Any], None], options: list[str], parts: list[str], tmp_path: Path
) -> None:
    one, other = write(tmp_path / "one", some_results(0)), write(tmp_path / "other", some_results(1), change)

    assert_refused(compare(one, other, *options), *parts)
    assert not (tmp_path / "comparison").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--metrics=dice"], "mean_dice"),
        (["--metrics=true_volume_ml"], "--metrics true_volume_ml"),
        (["--names=A"], "--names"),
        (["--names=A,A"], "--names"),
        (["--common_cases=no"], "True or False"),
    ],
)
def test_bad_options_are_refused(options: list[str], part: str, pair: tuple[Path, Path]) -> None:
    assert_refused(compare(*pair, *options), part)


def test_results_of_earlier_versions_are_compared_by_what_they_have(tmp_path: Path) -> None:
    folders = []
    for seed in (0, 1):
        results = some_results(seed)
        old = {name: results.values[name] for name in ("mean_dice", "surface_distance_mm")}
        folders.append(tmp_path / str(seed))
        folders[-1].mkdir()
        content = to_json(Results(CASES, STRUCTURES, results.headings, old))
        (folders[-1] / "results.json").write_text(json.dumps(content), encoding="utf-8")

    one, other = folders

    compare(one, other, check=True)

    assert list(read_json(tmp_path / "comparison" / "comparison.json")["metrics"]) == [
        "mean_dice",
        "surface_distance_mm",
    ]
    assert_refused(compare(one, other, "--metrics=nsd"), "it has no nsd")
