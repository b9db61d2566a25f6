"""The page about a training: what it shows of the files in a run's folder."""

from __future__ import annotations

import csv
import html
import json
import math
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from builders import read_json
from conftest import BUNDLE
from engines import ADAPTED, DATA, STRUCTURES, go, slices
from ignite.engine import Engine
from sifa.handlers import ImageGrid, RunRecord, ScalarLog, TrainingReport, TrainingWatch
from sifa.reports.training_report import write_report


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
        RunRecord(folder, 7, DATA),
        ScalarLog(folder),
        ImageGrid(folder, STRUCTURES, interval=1),
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
    assert [name.replace("<wbr>", "") for name in re.findall(r"<figcaption>(.*?)</figcaption>", page)] == [
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
    assert re.findall(r'alt="Slices of iteration (\d+)"', page) == ["12", "8", "5", "1"]  # 4 spread over 12
    assert page.count("at epoch 1, iteration 2") == 1


def test_a_training_leaves_a_folder_that_explains_itself(trained: Path) -> None:
    assert [path.name for path in (trained / "images").glob("*.png")] == ["iteration_000004.png"]
    (session,) = read_json(trained / "run.json")["sessions"]
    assert (session["first_iteration"], session["last_iteration"]) == (1, 4)
    config = yaml.safe_load((trained / "config.yaml").read_text(encoding="utf-8"))
    assert (config["width"], config["epochs"], config["batch_size"]) == (0.0625, 2, 2)  # of the command line
    assert config["lr_gamma"] == 0.8  # of the overlay
    page = (trained / "report.html").read_text(encoding="utf-8")
    with open(trained / "scalars.csv", newline="", encoding="utf-8") as stream:
        columns = next(csv.reader(stream))
    shown = {name.replace("<wbr>", "") for name in re.findall(r"<figcaption>(.*?)</figcaption>", page)}
    assert shown == {*columns, "score", "agreement", "plausibility"} - {"epoch", "iteration", "loss"}
    assert re.search("<b>model.pt is of epoch [12] of 2</b>", page)
    assert str(BUNDLE) in " ".join(session["command"])


def test_the_report_opens_with_pictures_and_the_chosen_epoch(tmp_path: Path) -> None:
    rows = ("1,2,0.25,0.5,0.5", "2,4,0.75,0.9,0.8", "3,6,0.75,0.8,0.9", "4,8,0.5,0.7,0.7")
    (tmp_path / "selection.csv").write_text(
        "epoch,iteration,score,agreement,plausibility\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8"
    )
    page = fill(tmp_path)
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings == ["Warnings", "Pictures", "Model selection", "Curves", "Settings"]
    assert "model.pt is of epoch 3 of 4" in page
    assert 'alt="Curve of score over epochs"' in page
    assert re.findall('alt="Slices of iteration ([0-9]+)"', page) == ["3", "2", "1"]
    assert page.count("<details><summary>Iteration") == 2  # the last picture is open


def test_without_model_selection_the_report_says_nothing_of_it(tmp_path: Path) -> None:
    assert "Model selection" not in fill(tmp_path)
