"""The folder of a run: what was run on what, and the report at the end."""

from __future__ import annotations

import csv
import html
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from builders import read_json, refusal
from conftest import BUNDLE
from engines import ADAPTED, LABELS, go, scripted, slices
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow
from sifa.handlers import ImageGrid, RunRecord, ScalarLog, TrainingReport, TrainingWatch
from sifa.reports.curves import draw_curve, group_scalars, moving_mean
from sifa.reports.run_environment import describe_code
from sifa.reports.training_report import write_report

FINGERPRINT = {
    "name": "tiny & <generated>",
    "labels": LABELS,
    "slice_plane": "coronal",
    "slice_size": [16, 16],
    "spacing": [2.0, 2.0, 0],
    "source": {"modality": "MR", "training": {"volumes": 3, "median_percentiles": [0.5, 7.0]}},
    "target": {"modality": "CT", "training": {"volumes": 4}},
}


# --- record ---


def test_the_record_says_what_ran_on_what(tmp_path: Path) -> None:
    go([RunRecord(tmp_path, 7, FINGERPRINT)])

    record = read_json(tmp_path / "run.json")
    assert record["seed"] == 7
    assert record["data"]["source"] == {"modality": "MR", "volumes": 3}
    assert record["data"]["labels"] == LABELS
    (session,) = record["sessions"]
    assert session["command"] == sys.argv
    assert session["versions"]["torch"] == str(torch.__version__)
    assert set(session["versions"]) == {"sifa", "monai", "torch", "ignite", "numpy", "python"}
    assert session["device"] == "cpu"
    assert (session["processes"], session["threads"]) == (1, torch.get_num_threads())
    assert (session["first_iteration"], session["last_iteration"]) == (1, 4)
    assert session["started"] <= session["ended"]
    assert session["seconds"] >= 0
    assert not (tmp_path / "config.yaml").exists()  # nobody ran a config


def test_a_run_that_did_not_come_to_its_end_has_a_record_without_one(tmp_path: Path) -> None:
    step = scripted({"loss": [1.0, math.nan]})

    refusal(lambda: go([RunRecord(tmp_path, 0), TrainingWatch(tmp_path)], step, iterations=2))

    (session,) = read_json(tmp_path / "run.json")["sessions"]
    assert session["ended"] is session["seconds"] is session["last_iteration"] is None


def test_training_that_goes_on_adds_a_session_and_a_new_run_starts_anew(tmp_path: Path) -> None:
    def sessions() -> list[tuple[int, int]]:
        found = read_json(tmp_path / "run.json")["sessions"]
        return [(session["first_iteration"], session["last_iteration"]) for session in found]

    go([RunRecord(tmp_path, 0)])
    go([RunRecord(tmp_path, 0)], epochs=2, done=4)
    assert sessions() == [(1, 4), (5, 8)]
    go([RunRecord(tmp_path, 0)])
    assert sessions() == [(1, 4)]


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "{}"])
def test_a_record_that_is_none_does_not_keep_training_from_going_on(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    go([RunRecord(tmp_path, 0)], epochs=2, done=4)
    assert len(read_json(tmp_path / "run.json")["sessions"]) == 1


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle's folder in a git checkout of its own, committed."""
    root = tmp_path / "checkout"
    (root / "bundle" / "sifa").mkdir(parents=True)
    (root / "bundle" / "sifa" / "losses.py").write_text("one", encoding="utf-8")
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    for arguments in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "one")):
        subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)
    monkeypatch.setattr("sifa.reports.run_environment.bundle_root", lambda: str(root / "bundle"))
    return root


def test_the_revision_of_the_code_is_told_and_whether_it_was_modified(checkout: Path) -> None:
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    revision = head.stdout.strip()
    assert describe_code() == {"revision": revision, "modified": False}
    (checkout / "elsewhere.txt").write_text("not of the bundle", encoding="utf-8")
    assert describe_code() == {"revision": revision, "modified": False}
    (checkout / "bundle" / "sifa" / "losses.py").write_text("two", encoding="utf-8")
    assert describe_code() == {"revision": revision, "modified": True}


def test_a_checkout_around_a_copy_of_the_bundle_is_not_taken_for_the_bundles_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = checkout / "copies" / "bundle"
    (copy / "sifa").mkdir(parents=True)
    monkeypatch.setattr("sifa.reports.run_environment.bundle_root", lambda: str(copy))
    assert describe_code() is None


def test_without_git_there_is_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert describe_code() is None


def test_the_config_is_written_as_it_was_run_and_can_be_run_again(tmp_path: Path) -> None:
    """A workflow whose config has overlays and settings of a caller from Python, objects among them."""
    content = {
        "output_dir": str(tmp_path),
        "epochs": 5,
        "recorder": {"_target_": "sifa.handlers.RunRecord", "output_dir": "@output_dir", "seed": 0},
        "engine": "$__import__('ignite.engine').engine.Engine(lambda engine, batch: None)",
        "run": ["$@recorder.attach(@engine)", "$@engine.run([0], max_epochs=@epochs)"],
    }
    config = tmp_path / "config_of_the_test.json"
    config.write_text(json.dumps(content), encoding="utf-8")

    def run(path: Path, **settings: Any) -> Any:
        workflow = ConfigWorkflow(str(path), workflow_type="train", logging_file=False, **settings)
        workflow.run()
        return yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))

    written = run(config, epochs=2, folder=tmp_path)
    assert (written["epochs"], written["folder"], written["run"]) == (2, str(tmp_path), content["run"])
    assert read_json(tmp_path / "run.json")["sessions"][0]["last_iteration"] == 2

    assert run(tmp_path / "config.yaml") == written


# --- report ---


def fill(folder: Path, iterations: int = 3, done: int = 0, epochs: int = 1) -> str:
    """Runs an engine with all handlers that write and returns the page."""
    taken, made = slices(["source_image", "target_image"]), slices([*ADAPTED, "pred"])

    def step(engine: Engine, batch: Any) -> Any:
        state: Any = engine.state
        state.batch = taken
        norm = math.inf if engine.state.iteration == 2 else 1.0
        names = ("segmenter_loss", "source_discriminator_loss", "source_cycle", "segmenter_learning_rate", "surprise")
        scalars = {name: torch.tensor(1.0 / engine.state.iteration) for name in names}
        return {**made, **scalars, "segmenter_gradient_norm": torch.tensor(norm), "loss": torch.tensor(1.0)}

    handlers = [
        RunRecord(folder, 7, FINGERPRINT),
        ScalarLog(folder),
        ImageGrid(folder, LABELS, interval=1),
        TrainingWatch(folder, on_nan="warn"),
        TrainingReport(folder),
    ]
    go(handlers, step, iterations=iterations, done=done, epochs=epochs)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_report_shows_settings_curves_pictures_and_warnings(tmp_path: Path) -> None:
    page = fill(tmp_path)

    for part in ("tiny &amp; &lt;generated&gt;", "MR, 3 volumes", "CT, 4 volumes", "left &lt;atrium&gt;, $aorta$"):
        assert part in page
    assert str(torch.__version__) in page
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page) == [
        "segmenter_loss",
        "source_discriminator_loss",
        "source_cycle",
        "segmenter_learning_rate",
        "segmenter_gradient_norm",
        "surprise",
    ]
    assert page.count('src="data:image/png;base64,') == 3
    assert "segmenter_gradient_norm: not a finite number at epoch 1, iteration 2" in page


def test_the_report_needs_nothing_but_itself_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("<script src='http://elsewhere'></script>", encoding="utf-8")
    page = fill(tmp_path)

    assert not re.search(r"<script|<link|<iframe|@import|url\(", page)
    assert all(source.startswith("data:") for source in re.findall(r"(?:src|href)=\"(.*?)\"", page))
    assert "<script src='http://elsewhere'></script>" in html.unescape(page)


def test_the_report_shows_the_last_validation(tmp_path: Path) -> None:
    entries = {
        "left <atrium>": {"mean": 81.25, "std": 2.0, "not_available": 0, "volumes": [81.25]},
        "aorta": {"mean": None, "std": None, "not_available": 1, "volumes": [None]},
    }
    metric = {"heading": "Dice (%)", "mean": 81.25, "structures": entries}
    content = {"volumes": ["a.nii.gz"], "metrics": {"mean_dice": metric}}
    (tmp_path / "validation.json").write_text(json.dumps(content), encoding="utf-8")

    page = write_report(tmp_path).read_text(encoding="utf-8")

    for row in ("<td>left &lt;atrium&gt;</td><td>81.25</td>", "<td>aorta</td><td>n/a (1 n/a)</td>"):
        assert row in page
    assert "<td>mean</td><td>81.25</td>" in page


def test_of_an_empty_folder_the_report_shows_nothing_and_does_not_fail(tmp_path: Path) -> None:
    assert "<h2>" not in write_report(tmp_path).read_text(encoding="utf-8")


def test_the_report_of_a_training_that_went_on_is_about_all_of_it(tmp_path: Path) -> None:
    fill(tmp_path)
    page = fill(tmp_path, done=3, epochs=4)

    assert "<h2>Sessions</h2>" in page
    assert re.findall(r'alt="Slices of iteration (\d+)"', page) == ["1", "5", "8", "12"]  # 4 spread over 12
    assert page.count("at epoch 1, iteration 2") == 1


def test_scalars_are_shown_in_groups_and_new_ones_are_not_lost() -> None:
    names = [
        "epoch",
        "iteration",
        "loss",
        "surprise",
        "segmenter_loss",
        "target_cycle",
        "prediction_adversarial_weight",
    ]
    assert list(group_scalars(names).values()) == [
        ["segmenter_loss"],
        ["target_cycle"],
        ["prediction_adversarial_weight"],
        ["surprise"],
    ]


def path_of(svg: str, kind: str) -> list[tuple[float, float]]:
    """Returns the points of a curve."""
    (points,) = re.findall(rf'class="{kind}" d="M(.*?)"', svg)
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", points)]


def test_a_curve_rises_where_its_values_do() -> None:
    points = path_of(draw_curve(np.arange(1.0, 4.0), np.array([1.0, 3.0, 2.0])), "raw")
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[0][1] > points[2][1] > points[1][1]  # SVG counts from the top


def test_a_long_curve_is_thinned_out() -> None:
    values = np.random.default_rng(0).random(24000)
    svg = draw_curve(np.arange(1.0, 24001.0), values)
    assert 400 < len(path_of(svg, "raw")) == len(path_of(svg, "mean")) <= 800


@pytest.mark.parametrize("values", [[2.0], [0.0, 0.0], [1.0, math.nan, math.inf, 2.0]])
def test_short_constant_and_broken_curves_can_be_drawn(values: list[float]) -> None:
    points = path_of(draw_curve(np.arange(1.0, len(values) + 1), np.array(values)), "mean")
    assert len(points) == np.isfinite(values).sum()
    assert np.isfinite(points).all()


def test_a_curve_without_any_value_says_so() -> None:
    assert "No finite value" in draw_curve(np.arange(1.0, 3.0), np.array([math.nan, math.inf]))


def test_an_outlier_does_not_flatten_a_curve() -> None:
    values = np.random.default_rng(0).random(1000)
    values[500] = 1e9
    heights = [y for _, y in path_of(draw_curve(np.arange(1.0, 1001.0), values), "raw")]
    assert np.quantile(heights, 0.9) - np.quantile(heights, 0.1) > 100  # pixels


def test_the_moving_mean_of_a_constant_is_that_constant_and_skips_what_is_missing() -> None:
    values = np.full(500, 3.0)
    values[100] = math.nan
    assert np.allclose(moving_mean(values), 3.0)


# --- the whole way ---


def test_a_training_leaves_a_folder_that_explains_itself(trained: Path) -> None:
    assert [path.name for path in (trained / "images").glob("*.png")] == ["iteration_000004.png"]
    (session,) = read_json(trained / "run.json")["sessions"]
    assert (session["first_iteration"], session["last_iteration"]) == (1, 4)
    config = yaml.safe_load((trained / "config.yaml").read_text(encoding="utf-8"))
    assert (config["width"], config["epochs"], config["batch_size"]) == (0.0625, 2, 2)  # of the command line
    assert config["segmenter_decay"] == 0.8  # of the overlay
    page = (trained / "report.html").read_text(encoding="utf-8")
    with open(trained / "scalars.csv", newline="", encoding="utf-8") as stream:
        columns = next(csv.reader(stream))
    shown = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert sorted(shown) == sorted(set(columns) - {"epoch", "iteration", "loss"})
    assert str(BUNDLE) in " ".join(session["command"])
