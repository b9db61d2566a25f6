"""`run planning` through the real command line, and trainings with and without its overlay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import assert_refused, read_json
from conftest import BUNDLE, RECOMMENDED, TINY, run_bundle
from monai.bundle import ConfigParser
from sifa.data.dataset_json import read_dataset
from sifa.fingerprint.extractor import compute_fingerprint
from sifa.planning.overlay import render
from sifa.planning.plan import Setting, plan_appearance, plan_epochs, plan_plane, plan_slices, view_of, wanted_pixels

PLANNED = {
    "slice_plane",
    "slice_size",
    "pixel_spacing",
    "batch_size",
    "epochs",
    "num_workers",
    "match_intensity",
    "match_field_of_view",
    "random_appearance_weight",
}
SMALL: dict[str, Any] = {"width": 0.0625, "batch_size": 2, "epochs": 1, "iterations_per_epoch": 2}


def without_plane(phantom: Path, folder: Path) -> Path:
    """Copies a data set and removes its slice plane."""
    data = Path(shutil.copytree(phantom, folder / "data"))
    content = read_json(data / "dataset.json")
    del content["slice_plane"]
    (data / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return data


@pytest.mark.slow
def test_a_plan_is_an_overlay_that_a_training_then_follows(phantom: Path, tmp_path: Path) -> None:
    data, output = without_plane(phantom, tmp_path), tmp_path / "run"

    planned = run_bundle("planning", RECOMMENDED, dataset_dir=data, output_dir=output, **SMALL)

    text = (output / "plan.yaml").read_text(encoding="utf-8")
    plan = yaml.safe_load(text)
    assert set(plan) == {*PLANNED, "initialize"}
    assert plan["slice_plane"] == "coronal"  # the generated scans are coarsest across it
    assert (plan["num_workers"], plan["match_intensity"], plan["batch_size"]) == (0, None, 2)
    assert text.splitlines()[0] in planned.stdout + planned.stderr
    assert "CPU cores" in text
    assert "an iteration took" in text
    assert [path.name for path in output.iterdir()] == ["plan.yaml"]

    configs = [*RECOMMENDED, str(output / "plan.yaml")]
    options: dict[str, Any] = {**SMALL, "slice_size": "[32,32]", "val_interval": 0}
    trained = run_bundle("training", configs, dataset_dir=data, output_dir=output, **options)

    fingerprint = read_json(output / "fingerprint.json")
    assert fingerprint["slice_plane"] == "coronal"
    assert fingerprint["spacing"][0] == plan["pixel_spacing"]
    assert "plan: slice_size is [32, 32], the data call for" in trained.stdout + trained.stderr
    assert "ascending aorta" in fingerprint["statistics"]["structures"]


@pytest.mark.slow
def test_a_plan_of_a_config_without_our_additions_or_adaptation_has_only_the_settings_of_that_config(
    phantom: Path, tmp_path: Path
) -> None:
    configs = ["train.yaml", "compact.yaml", "source_only.yaml"]
    run_bundle("planning", configs, dataset_dir=phantom, output_dir=tmp_path, slice_plane="sagittal", **SMALL)

    plan = yaml.safe_load((tmp_path / "plan.yaml").read_text(encoding="utf-8"))
    adapting = {"match_intensity", "match_field_of_view", "random_appearance_weight"}
    assert set(plan) == {*PLANNED - adapting, "initialize"}
    assert plan["slice_plane"] == "sagittal"


def test_a_training_without_a_plane_names_what_chooses_one(phantom: Path, tmp_path: Path) -> None:
    data = without_plane(phantom, tmp_path)
    result = run_bundle("training", RECOMMENDED, dataset_dir=data, output_dir=tmp_path / "run", check=False, **TINY)

    assert result.returncode == 1
    assert (
        "'slice_plane' is missing: write one of axial, coronal, sagittal, acquired there, or give --slice_plane"
        in result.stderr
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slice_plane": "frontal"}, "--slice_plane frontal: choose axial, coronal, sagittal, acquired."),
        ({"minutes": 0}, "--minutes 0: give a positive number."),
        ({"epoch": 3}, "did you mean --epochs?"),
    ],
)
def test_a_wrong_option_of_planning_is_refused(
    options: dict[str, Any], words: str, phantom: Path, tmp_path: Path
) -> None:
    options = {"dataset_dir": phantom, "output_dir": tmp_path / "run", **options}
    assert_refused(run_bundle("planning", RECOMMENDED, check=False, **options), words)


def test_the_second_stage_of_a_method_is_not_planned(phantom: Path, trained: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset_dir": phantom, "output_dir": tmp_path / "run", "initial_weights": trained}
    result = run_bundle("planning", RECOMMENDED, check=False, **options)

    assert result.returncode == 1
    assert "plan the first stage, and give its plan.yaml to both." in result.stderr


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        (["train.yaml", "PLAN", "compact.yaml"], "plan.yaml comes after compact.yaml"),
        (["train.yaml", "source_only.yaml", "PLAN"], "source_only.yaml comes after plan.yaml"),
        (["PLAN"], "plan.yaml is an overlay and comes after train.yaml"),
    ],
)
def test_a_plan_in_the_wrong_place_is_refused_with_the_right_order(
    configs: list[str], words: str, phantom: Path, tmp_path: Path
) -> None:
    (tmp_path / "plan.yaml").write_text(render([Setting("epochs", 3, "few")], ["A plan."]), encoding="utf-8")
    names = [str(tmp_path / "plan.yaml") if name == "PLAN" else name for name in configs]
    options: dict[str, Any] = {"dataset_dir": phantom, "output_dir": tmp_path / "run"}
    assert_refused(run_bundle("training", names, check=False, **options), words)


@pytest.mark.slow
def test_compact_yaml_and_a_plan_are_abdomen_yaml_on_its_data(shared: Path) -> None:
    dataset = read_dataset(shared / "abdomen" / "dataset.json")
    config: Any = ConfigParser.load_config_files([str(BUNDLE / "configs" / name) for name in RECOMMENDED])
    fingerprint = compute_fingerprint(dataset, {"in_channels": 1, "width": 0.25}, (256, 256), config["intensity"])
    view = view_of(fingerprint, adapts=True)
    lines = [plan_plane(view, ""), *plan_slices(view, wanted_pixels(view))]
    lines += [plan_epochs(view, config["epochs"], config["iterations_per_epoch"], config["batch_size"], True)]
    plan = {line.name: line.value for line in [*lines, *plan_appearance(view, fingerprint)]}

    expected = yaml.safe_load((BUNDLE / "configs" / "abdomen.yaml").read_text(encoding="utf-8"))
    del expected["initialize"]
    assert {name: plan[name] for name in expected} == expected
    assert (plan["slice_plane"], plan["match_field_of_view"]) == ("axial", True)
