"""The benchmark: what a cell's name depends on, what is run again, what fails alone, its tables and pictures."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark
import benchmark_cells
import benchmark_figures
import benchmark_plan
import benchmark_report
import benchmark_selection
import numpy as np
import pytest
import torch
import yaml
from builders import assert_refused, read_json, refusal, write_description
from conftest import BUNDLE, ROOT, run_script
from matplotlib.figure import Figure
from monai.bundle import ConfigParser

DECLARATION: dict[str, Any] = {
    "datasets": {"tiny": {"label": "tiny", "configs": ["compact.yaml"]}},
    "methods": {
        "source_only": {"label": "without adaptation", "configs": ["source_only.yaml"]},
        "adapted": {"label": "adapted", "after": "source_only", "run": "adapting", "configs": ["abdomen.yaml"]},
        "broken": {"label": "broken"},
        "after_broken": {"label": "after broken", "after": "broken", "run": "adapting"},
        "recommended": {"label": "SIFA", "options": {"pool_size": 50}},
    },
    "lower": "source_only",
    "upper": "supervised",
    "groups": {"methods": ["source_only", "adapted", "broken", "after_broken", "recommended"]},
    "figures": {},
}

# Stands for `python -m monai.bundle run`: notes its call; a training of "broken" fails.
FAKE = """
import json, sys
from pathlib import Path
run_id, options, calls = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
with open(calls, "a") as stream:
    stream.write(json.dumps([run_id, options]) + "\\n")
folder = Path(options["output_dir"])
if "-broken-" in folder.name:
    sys.exit("no such luck")
folder.mkdir(parents=True, exist_ok=True)
if run_id == "evaluating":
    part = {"mean": 40.0, "std": 0.0, "not_available": 0, "volumes": [40.0]}
    metric = {"mean": 40.0, "structures": {"liver": part}}
    names = ("mean_dice", "surface_distance_voxels", "surface_distance_mm")
    results = {"volumes": ["ct.nii.gz"], "metrics": dict.fromkeys(names, metric)}
    (folder / "results.json").write_text(json.dumps(results))
else:
    (folder / "run.json").write_text(json.dumps({"sessions": [{"device_name": "a card"}]}))
"""

Calls = Callable[[], list[tuple[str, dict[str, Any]]]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_description(folder, {"name": "tiny", "target": {"test": ["a scan"]}})
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """Puts the fake in the bundle's place; returns what reads its calls."""
    log = tmp_path / "calls"
    log.touch()

    def command(run_id: str, configs: list[str], **options: Any) -> list[str]:
        content = json.dumps({"configs": configs, **options}, default=str)
        return [sys.executable, "-c", FAKE, run_id, content, str(log)]

    def count(cell: benchmark_cells.Cell) -> list[str]:
        content = json.dumps({"tmac": 1.5})
        return [sys.executable, "-c", f"open({str(cell.work)!r}, 'w').write({content!r})"]

    monkeypatch.setattr(benchmark_cells, "bundle", command)
    monkeypatch.setattr(benchmark_cells.Cell, "work_command", count)
    return lambda: [tuple(json.loads(line)) for line in log.read_text(encoding="utf-8").splitlines()]


def plan(data: Path, output: Path, *methods: str, seed: int = 0, **changes: Any) -> list[benchmark_cells.Cell]:
    declaration = {**DECLARATION, **changes}
    sets = benchmark_plan.plan_data(declaration, ["tiny"], [seed], {"tiny": str(data)}, output)
    return benchmark_plan.plan_cells(declaration, methods, sets, output)


def run(cells: list[benchmark_cells.Cell]) -> dict[str, str]:
    return benchmark.run_cells(cells, 2, benchmark_cells.Processes())


def result(dice: float, missing: int = 0, seconds: float = 60, distance: float | None = 2.0) -> dict[str, Any]:
    """A cell's result with two structures, whose Dice lies 10 above and below the mean."""

    def metric(mean: float | None, parts: tuple[float | None, float | None]) -> dict[str, Any]:
        counts = (missing, 0)
        structures = {
            name: {"mean": part, "not_available": count}
            for name, part, count in zip(("liver", "spleen"), parts, counts, strict=True)
        }
        return {"mean": mean, "structures": structures}

    distances = metric(distance, (distance, distance))
    metrics = {"mean_dice": metric(dice, (dice + 10, dice - 10))}
    metrics |= {"surface_distance_voxels": distances, "surface_distance_mm": distances}
    return {"volumes": ["a", "b"], "training_seconds": seconds, "tmac": 6.5, "metrics": metrics}


def test_a_cell_is_named_anew_when_a_config_an_option_the_code_the_data_or_the_model_before_it_changes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs, package = tmp_path / "configs", tmp_path / "sifa"
    shutil.copytree(BUNDLE / "configs", configs)
    shutil.copytree(BUNDLE / "sifa", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(benchmark_cells, "CONFIGS", configs)
    monkeypatch.setattr(benchmark_cells, "PACKAGE", package)

    def names(**changes: Any) -> set[str]:
        return {cell.folder.name for cell in plan(data, tmp_path, "source_only", "adapted", **changes)}

    seen = names()
    assert names() == seen
    with open(configs / "inference.yaml", "a", encoding="utf-8") as stream:  # which no cell uses
        stream.write("# more\n")
    assert names() == seen
    for file in (
        configs / "train.yaml",
        configs / "compact.yaml",
        configs / "source_only.yaml",
        configs / "evaluate.yaml",
        package / "handlers" / "scalars.py",
        data / "dataset.json",
    ):
        with open(file, "a", encoding="utf-8") as stream:
            stream.write("\n")
        assert not seen & names(), file
        seen |= names()
    assert not seen & names(options={"epochs": 3})
    assert not seen & names(seed=1)


def test_a_complete_cell_is_not_run_again_and_another_seed_is(data: Path, tmp_path: Path, calls: Calls) -> None:
    assert run(plan(data, tmp_path, "recommended")) == {}
    assert [name for name, _ in calls()] == ["training", "evaluating"]
    assert run(plan(data, tmp_path, "recommended")) == {}
    assert len(calls()) == 2
    assert run(plan(data, tmp_path, "recommended", seed=1)) == {}
    assert len(calls()) == 4


def test_a_training_gets_overlays_in_order_the_seed_the_options_and_a_state_to_go_on_from(
    data: Path, tmp_path: Path, calls: Calls
) -> None:
    cells = plan(data, tmp_path, "source_only", "recommended", seed=3)
    assert run(cells) == {}
    trainings = {options["configs"][-1]: options for name, options in calls() if name == "training"}
    assert trainings["source_only.yaml"]["configs"] == ["train.yaml", "compact.yaml", "source_only.yaml"]
    assert trainings["compact.yaml"]["pool_size"] == 50
    for options in trainings.values():
        assert (options["seed"], options["resume"], options["dataset_dir"]) == (3, "auto", str(data))
        assert options["num_workers"] == 0


def test_an_interrupted_cell_goes_on_and_its_seconds_are_the_sum(data: Path, tmp_path: Path, calls: Calls) -> None:
    (cell,) = plan(data, tmp_path, "recommended")
    cell.folder.mkdir(parents=True)
    cell.clock.write_text(json.dumps({"seconds": 100, "finished": False}), encoding="utf-8")
    assert run([cell]) == {}
    assert [name for name, _ in calls()] == ["training", "evaluating"]
    assert 100 <= read_json(cell.result)["training_seconds"] < 130
    assert read_json(cell.result)["device"] == "a card"
    cell.result.unlink()
    assert run([cell]) == {}
    assert [name for name, _ in calls()][2:] == ["evaluating"]  # the training was finished


def test_a_method_that_starts_from_another_ones_model_runs_after_it_even_where_only_it_is_chosen(
    data: Path, tmp_path: Path, calls: Calls
) -> None:
    cells = plan(data, tmp_path, "adapted")
    assert [cell.method for cell in cells] == ["source_only", "adapted"]
    assert run(cells) == {}
    assert [name for name, _ in calls()] == ["training", "evaluating", "adapting", "evaluating"]
    options = calls()[2][1]
    assert options["configs"] == ["train.yaml", "compact.yaml", "abdomen.yaml"]
    assert (options["model_dir"], options["output_dir"]) == (str(cells[0].folder), str(cells[1].folder))
    first, second = (read_json(cell.result)["training_seconds"] for cell in cells)
    assert second >= first


def test_a_later_stage_starts_from_the_run_before_it_is_resumed_and_counts_the_work_of_both(
    data: Path, tmp_path: Path, calls: Calls
) -> None:
    methods = {
        "stage": {"label": "first stage", "options": {"epochs": 3}, "dataset_options": {"tiny": {"width": 0.5}}},
        "staged": {
            "label": "staged",
            "after": "stage",
            "options": {"epochs": 3},
            "dataset_options": {"other": {"a": 1}},
        },
    }
    first, second = cells = plan(data, tmp_path, "staged", methods=methods)
    assert run(cells) == {}
    assert [name for name, _ in calls()] == ["training", "evaluating"] * 2
    stage, staged = (options for name, options in calls() if name == "training")
    assert (stage["width"], stage["resume"], staged["resume"]) == (0.5, "auto", "auto")
    assert staged["initial_weights"] == str(first.folder)
    assert not {"initial_weights", "model_dir"} & set(stage)
    assert not {"model_dir", "a", "width"} & set(staged)
    assert [read_json(cell.result)["tmac"] for cell in cells] == [1.5, 3.0]
    assert read_json(second.result)["gate_open"] is None


def test_the_share_of_iterations_with_an_open_gate_is_read_from_the_scalars(tmp_path: Path) -> None:
    table = tmp_path / "scalars.csv"
    table.write_text("epoch,iteration,gate_open\n1,1,1.0\n1,2,0.0\n1,3,\n1,4,1.0\n", encoding="utf-8")
    assert benchmark_cells.read_gate(table) == pytest.approx(2 / 3, abs=1e-4)
    table.write_text("epoch,iteration,loss\n1,1,1.0\n", encoding="utf-8")
    assert benchmark_cells.read_gate(table) is None


def test_a_method_that_only_measures_takes_the_model_before_it_and_gives_its_options_to_the_measuring(
    data: Path, tmp_path: Path, calls: Calls
) -> None:
    methods = {
        "recommended": {"label": "SIFA"},
        "pieces": {"label": "pieces", "after": "recommended", "run": "evaluating", "options": {"keep": "all"}},
    }
    trained, measured = cells = plan(data, tmp_path, "pieces", methods=methods)
    assert run(cells) == {}
    assert [name for name, _ in calls()] == ["training", "evaluating", "evaluating"]
    assert "keep" not in calls()[1][1]
    options = calls()[2][1]
    assert (options["keep"], options["model_dir"]) == ("all", str(trained.folder))
    assert options["output_dir"] == str(measured.folder / "evaluation")
    assert measured.model == trained.folder
    assert read_json(measured.result)["training_seconds"] == read_json(trained.result)["training_seconds"]


def test_a_failed_cell_leaves_the_others_and_is_named_with_its_log_and_status_1(
    data: Path, tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmark_figures.py").touch()
    monkeypatch.setattr(benchmark, "SCRIPTS", tmp_path)
    declaration = tmp_path / "declaration.yaml"
    declaration.write_text(yaml.safe_dump(DECLARATION), encoding="utf-8")
    with pytest.raises(SystemExit) as status:
        benchmark.main(str(tmp_path / "output"), declaration=str(declaration), tiny=str(data))
    assert status.value.code == 1
    content = read_json(tmp_path / "output" / "results.json")
    assert set(content["datasets"]["tiny"]["methods"]) == {"source_only", "adapted", "recommended"}
    assert set(content["failed"]) == {"tiny, broken, seed 0", "tiny, after_broken, seed 0"}
    (log,) = (tmp_path / "output" / "cells").glob("tiny-broken-*/logs/training.log")
    assert log.read_text(encoding="utf-8").strip() == "no such luck"
    printed = "".join(capsys.readouterr().out.split())
    assert "".join(f"failed: tiny, broken, seed 0: exit status 1, see {log}".split()) in printed


def test_the_share_of_the_gap_is_averaged_over_seeds_that_all_three_have() -> None:
    lower = {0: result(10), 1: result(20), 2: result(30)}
    upper = {0: result(90), 1: result(80), 2: result(30)}
    method = {0: result(50), 1: result(35), 2: result(40), 3: result(99)}
    first, second = (50 - 10) / (90 - 10), (35 - 20) / (80 - 20)  # of seed 2 there is no gap
    gap = benchmark_report.share_of_gap(method, lower, upper)
    assert gap["mean"] == pytest.approx((first + second) / 2, abs=1e-4)
    assert gap["std"] == pytest.approx(abs(first - second) / 2**0.5, abs=1e-4)
    assert benchmark_report.share_of_gap(lower, lower, upper)["mean"] == 0
    assert benchmark_report.share_of_gap(upper, lower, upper)["mean"] == 1
    assert benchmark_report.share_of_gap(method, lower, {}) == {"mean": None, "std": None}


def test_the_table_has_structures_spread_missing_distances_and_minutes_of_each_method() -> None:
    lower, upper = {0: result(10), 1: result(20)}, {0: result(90), 1: result(80)}
    method = {0: result(50, missing=2, seconds=60), 1: result(50, seconds=180, distance=None)}
    rows = {
        "sifa": benchmark_report.summarize(method, lower, upper),
        "one": benchmark_report.summarize({0: result(30)}, {}, {}),
    }
    table = benchmark_report.markdown(benchmark_report.table(rows, {"sifa": "SIFA", "one": "one seed"}))
    assert table.splitlines() == [
        "| method | liver | spleen | mean Dice (%) | ASD (voxels) | ASD (mm) | n/a | gap recovered (%) "
        "| training (min) | T MAC | scans | seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| SIFA | 60.0 ± 0.0 | 40.0 ± 0.0 | 50.0 ± 0.0 | 2.00 | 2.00 | 2 | 50 ± 0 | 2.0 | 6.5 | 2 | 2 |",
        "| one seed | 40.0 | 20.0 | 30.0 | 2.00 | 2.00 | 0 | n/a | 1.0 | 6.5 | 2 | 1 |",
    ]


def test_the_gate_and_the_papers_figure_have_columns_where_a_row_has_them() -> None:
    gated = {0: {**result(50), "gate_open": 0.25}, 1: {**result(50), "gate_open": 0.75}}
    rows = {
        "cycada": {**benchmark_report.summarize(gated, {}, {}), "paper": 64.4},
        "one": benchmark_report.summarize({0: result(30)}, {}, {}),
    }
    heading, first, second = benchmark_report.table(rows, {"cycada": "CyCADA", "one": "one seed"})
    columns = [heading.index("gate open (%)"), heading.index("paper, other data (%)")]
    assert [[line[column] for column in columns] for line in (first, second)] == [["50", "64.4"], ["", ""]]


def test_a_method_can_have_bounds_of_its_own_for_the_share_of_the_gap() -> None:
    declaration = {"lower": "a", "upper": "b", "methods": {"c": {"lower": "d"}, "e": {}}}
    assert benchmark.bounds(declaration, "c") == ("d", "b")
    assert benchmark.bounds(declaration, "e") == ("a", "b")


def test_a_table_is_replaced_between_its_comments_and_nothing_else(tmp_path: Path) -> None:
    document, end = tmp_path / "card.md", "<!-- end -->"
    first, second = "<!-- benchmark tiny methods -->", "<!-- benchmark tiny ablations -->"
    document.write_text(f"a\n{first}\nold\n{end}\nb\n{second}\nkept\n{end}\n", encoding="utf-8")
    benchmark_report.replace_table(document, "tiny methods", [["method", "Dice"], ["SIFA", "50"]])
    table = ["| method | Dice |", "| --- | ---: |", "| SIFA | 50 |"]
    lines = document.read_text(encoding="utf-8").splitlines()
    assert lines == ["a", first, *table, end, "b", second, "kept", end]
    assert "benchmark abdomen methods" in refusal(
        lambda: benchmark_report.replace_table(document, "abdomen methods", [["method"]])
    )


def test_the_data_sets_of_a_joined_group_share_a_table(tmp_path: Path) -> None:
    def rows(*names: str) -> dict[str, Any]:
        return {name: {**benchmark_report.summarize({0: result(50)}, {}, {}), "label": name.upper()} for name in names}

    datasets: dict[str, dict[str, Any]] = {name: {"label": f"data {name}", "split": "test"} for name in ("one", "two")}
    datasets["one"]["methods"] = rows("a", "b")
    datasets["two"]["methods"] = rows("b")
    document = tmp_path / "results.md"
    names = ["one alone", "two alone", "together"]
    document.write_text("".join(f"<!-- benchmark {name} -->\n<!-- end -->\n" for name in names), encoding="utf-8")
    groups = {"alone": ["a"], "together": ["a", "b"]}
    benchmark.write_tables({"datasets": datasets}, groups, ["together"], tmp_path, document)
    tables = document.read_text(encoding="utf-8").split("<!-- benchmark ")[1:]
    first = [[line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][2:] for table in tables]
    assert first == [["| A"], [], ["| data one: A", "| data one: B", "| data two: B"]]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--methods", "recommended,magic"], ["--methods names magic", "source_only"]),
        (["--datasets", "brain"], ["--datasets names brain", "phantom, phantom_1"]),
        (["--groups", "all"], ["--groups names all", "ablations"]),
        (["--seeds", "0,one"], ["--seeds", "whole numbers"]),
        (["--seeds", "-1"], ["--seeds", "whole numbers"]),
        (["--jobs", "0"], ["--jobs", "at least 1"]),
        (["--epocs", "1"], ["--epocs"]),
        (["--datasets", "abdomen"], ["--abdomen is missing", "--datasets"]),
        (["--datasets", "abdomen", "--abdomen", "EMPTY"], ["--abdomen", "dataset.json"]),
        (["--datasets", "phantom", "--groups", "methods", "--document", "EMPTY/a.md"], ["a.md", "phantom methods"]),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(arguments: list[str], parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    given = [argument.replace("EMPTY", str(tmp_path / "empty")) for argument in arguments]
    assert_refused(run_script("benchmark.py", str(tmp_path / "output"), *given, check=False), *parts)
    assert not (tmp_path / "output").exists()


def test_a_method_without_its_config_is_refused(data: Path, tmp_path: Path) -> None:
    methods = {"new": {"label": "new", "configs": ["not_yet.yaml"]}}
    assert "not_yet.yaml" in refusal(lambda: plan(data, tmp_path, "new", methods=methods))


def test_test_scans_are_measured_and_validation_scans_where_there_are_none(data: Path, tmp_path: Path) -> None:
    def measured() -> str:
        (cell,) = plan(data, tmp_path, "recommended")
        return cell.evaluating_command()[-1]

    content = read_json(data / "dataset.json")
    assert content["target"]["test"]
    assert measured() == "test"
    content["target"]["test"] = []
    (data / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    assert measured() == "validation"
    (data / "dataset.json").write_text("no JSON", encoding="utf-8")
    assert "dataset.json describes no target images" in refusal(measured)


def test_what_is_declared_agrees_with_itself() -> None:
    declared = yaml.safe_load((ROOT / "scripts" / "benchmark.yaml").read_text(encoding="utf-8"))
    named = [*declared["groups"].values(), *declared["figures"].values(), [declared["lower"], declared["upper"]]]
    assert {name for names in named for name in names} == set(declared["methods"])
    assert all(entry.get("after", name) in declared["methods"] for name, entry in declared["methods"].items())
    assert all("after" in entry for entry in declared["methods"].values() if entry.get("run") == "evaluating")
    assert {name for entry in declared["methods"].values() for name in entry.get("datasets", [])} <= set(
        declared["datasets"]
    )
    assert set(declared["joined"]) <= set(declared["groups"])


def test_every_option_of_a_method_sets_what_the_configs_have() -> None:
    declared = yaml.safe_load((ROOT / "scripts" / "benchmark.yaml").read_text(encoding="utf-8"))
    for name, entry in declared["methods"].items():
        first = declared["methods"][entry["after"]] if entry.get("run") == "evaluating" else entry
        files = ["train.yaml", *first.get("base", []), "compact.yaml", "abdomen.yaml", *first.get("configs", [])]
        parser = ConfigParser(ConfigParser.load_config_files([str(BUNDLE / "configs" / file) for file in files]))
        for option in {**entry.get("options", {}), **entry.get("dataset_options", {}).get("abdomen", {})}:
            parent = option.rpartition("#")[0]  # a component may have the argument by default
            is_argument = bool(parent) and "_target_" in parser[parent]
            assert option in parser or is_argument, f"{name}: {option}"


def write_tiny_declaration(folder: Path) -> Path:
    """Writes the declaration with a phantom of a few small subjects."""
    declared = yaml.safe_load((ROOT / "scripts" / "benchmark.yaml").read_text(encoding="utf-8"))
    sizes = {"source_training": 2, "source_validation": 0, "target_training": 2, "target_validation": 0}
    declared["datasets"]["phantom"]["generate"]["options"] = {**sizes, "target_test": 1, "spacing": 5.0, "workers": 1}
    (folder / "declaration.yaml").write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
    return folder / "declaration.yaml"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real benchmark: two methods, one iteration each, tiny generated data."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "card.md").write_text("<!-- benchmark phantom table1 -->\n<!-- end -->\n", encoding="utf-8")
    rows = "source_only_published,supervised_published"
    chosen = ["--datasets=phantom", "--groups=table1", f"--methods={rows}", "--seeds=0"]
    short = ["--epochs=1", "--iterations_per_epoch=1", f"--declaration={write_tiny_declaration(folder)}"]
    run_script("benchmark.py", str(folder / "output"), *chosen, *short, f"--document={folder / 'card.md'}")
    return folder / "output"


@pytest.mark.slow
def test_the_benchmark_trains_measures_and_tabulates(output: Path) -> None:
    methods = read_json(output / "results.json")["datasets"]["phantom"]["methods"]
    assert list(methods) == ["source_only_published", "supervised_published"]
    for name, row in methods.items():
        cell = Path(row["cells"]["0"]["model_dir"])
        measured = read_json(cell / "evaluation" / "results.json")["metrics"]
        assert cell.name.startswith(f"phantom-{name}-0-")
        assert row["dice"]["mean"] == pytest.approx(measured["mean_dice"]["mean"], abs=1e-3)
        assert len(row["dice"]["structures"]) == 4
        assert row["minutes"]["mean"] > 0
    rows = list(csv.DictReader((output / "results.csv").open(encoding="utf-8")))
    assert {row["quantity"] for row in rows} == {"dice", "asd_voxels", "asd_mm", "gap", "minutes", "tmac", "gate_open"}
    card = (output.parent / "card.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in card[3:-1]] == ["| without adaptation", "| supervised on labeled target"]


@pytest.mark.slow
def test_the_benchmark_draws_the_predictions_of_its_cells(output: Path) -> None:
    pictures = sorted(path.name for path in (output / "figures").iterdir())
    assert pictures == ["phantom_ablation.png", "phantom_methods.png"]  # neither method has generators
    assert all((output / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


@pytest.mark.slow
def test_a_translation_and_a_comparison_show_their_images_in_the_papers_order(
    phantom: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[list[dict[str, np.ndarray]], list[str]]] = []
    draw = benchmark_figures.draw

    def note(rows: list[dict[str, np.ndarray]], structures: dict[int, str], headings: dict[str, str]) -> Figure:
        drawn.append((rows, list(headings)))
        return draw(rows, structures, headings)

    monkeypatch.setattr(benchmark_figures, "draw", note)
    cell = {"model_dir": str(trained), "dataset_dir": str(phantom)}
    with torch.inference_mode():
        benchmark_figures.translation(cell, "test", 2, tmp_path / "translation.png")
        benchmark_figures.comparison({"a": cell, "b": cell}, {"a": "A", "b": "B"}, "test", 4, tmp_path / "methods.png")
    (translations, images), (comparisons, columns) = drawn
    assert images[:3] == ["source_image", "fake_target", "reconstructed_source"]
    assert images[3:] == ["target_image", "fake_source", "reconstructed_target"]
    assert columns == ["target_image", "pred_a", "pred_b", "target_label"]
    assert len(translations) == len(comparisons) == 2  # scans of the test list
    for first, second in zip(translations, comparisons, strict=True):
        assert {first[key].shape for key in images} | {second[key].shape for key in columns} == {(32, 32)}
        assert np.array_equal(first["target_label"], second["target_label"])
        assert np.array_equal(second["pred_a"], second["pred_b"])
    assert {path.name for path in tmp_path.iterdir()} == {"translation.png", "methods.png"}


@pytest.mark.slow
def test_the_choice_without_labels_stands_beside_the_last_and_the_best_network(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("<!-- benchmark phantom selection -->\n<!-- end -->\n", encoding="utf-8")
    short = ["--epochs=2", "--iterations_per_epoch=1", f"--declaration={write_tiny_declaration(tmp_path)}"]
    run_script("benchmark_selection.py", str(tmp_path / "output"), "--seeds=3", *short, f"--document={card}")

    (result,) = read_json(tmp_path / "output" / "selection.json")["seeds"]
    (cell,) = (tmp_path / "output" / "cells").iterdir()
    with open(cell / "selection.csv", encoding="utf-8", newline="") as stream:
        scores = [float(row["score"]) for row in csv.DictReader(stream)]
    assert result["scores"] == scores
    assert len(result["dice"]) == 2
    assert result["last"] == result["dice"][-1]
    assert result["oracle"] == max(result["dice"])
    assert len(result["votes"]) == 2
    assert all(0 <= vote <= 1 for vote in result["votes"])
    assert result["voted"] == result["dice"][result["votes"].index(max(result["votes"]))]
    measured = read_json(cell / "evaluation" / "results.json")["metrics"]["mean_dice"]["mean"]
    assert result["chosen"] == pytest.approx(measured)  # what training kept is what the scores say
    rows = [line.strip("| ").split(" | ")[0] for line in card.read_text(encoding="utf-8").splitlines()[3:-1]]
    assert rows == [*benchmark_selection.ROWS.values(), "rank correlation of score and Dice"]
