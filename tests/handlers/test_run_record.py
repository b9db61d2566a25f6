"""The record of a run: what was run on what, and with which config."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from builders import read_json, refusal
from engines import DATA, go, scripted
from monai.bundle import ConfigWorkflow
from sifa.handlers import RunRecord, TrainingWatch
from sifa.handlers.run_record import write_config
from sifa.reports.run_environment import describe_code
from sifa.utils.command import COMMAND, config_of_command


def test_the_record_says_what_ran_on_what(tmp_path: Path) -> None:
    go([RunRecord(tmp_path, 7, DATA)])

    record = read_json(tmp_path / "run.json")
    assert record["seed"] == 7
    assert record["data"]["source"] == {"modality": "MR", "volumes": 3}
    assert record["data"]["labels"] == DATA["labels"]
    (session,) = record["sessions"]
    assert session["command"] == sys.argv
    assert session["versions"]["torch"] == str(torch.__version__)
    assert set(session["versions"]) == {"sifa", "monai", "torch", "ignite", "numpy", "python"}
    assert session["device"] == "cpu"
    assert (session["processes"], session["threads"]) == (1, torch.get_num_threads())
    assert (session["first_iteration"], session["last_iteration"]) == (1, 4)
    assert session["started"] <= session["ended"]
    assert session["seconds"] >= 0
    assert not (tmp_path / "config.yaml").exists()  # no config was handed in


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


OBJECT = SimpleNamespace(name="an object")


def test_the_config_that_is_handed_in_is_written_and_objects_in_it_as_text(tmp_path: Path) -> None:
    config = {"epochs": 2, "folder": tmp_path, "sizes": (1, 2.5), "none": None, "thing": OBJECT, "run": ["$@trainer"]}

    go([RunRecord(tmp_path, 0, config=config)])

    written = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    assert written == {**config, "folder": str(tmp_path), "sizes": [1, 2.5], "thing": str(OBJECT)}
    assert list(written) == list(config)


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A folder with a config, an overlay, metadata and a file of arguments."""
    folder = tmp_path / "some configs"
    folder.mkdir()
    base = {"epochs": 5, "rates": {"segmenter": [1.0, 2.0]}, "copy": "%rates", "run": "$@epochs"}
    files = {"base": base, "over": {"rates#segmenter#0": 3.0}, "metadata": {"version": "1"}, "other": {"name": "b"}}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    arguments = {"config_file": str(folder / "base.json"), "run_id": "run", "epochs": 9, "tracking": "mlflow"}
    (folder / "arguments.json").write_text(json.dumps(arguments), encoding="utf-8")
    return folder


def test_the_config_of_a_command_is_the_one_that_monai_makes_of_it(configs: Path) -> None:
    files = [str(configs / "base.json"), str(configs / "over.json")]
    settings: dict[str, Any] = {"rates#segmenter#1": 4, "dataset_dir": "/a b", "flag": True}
    flags = [*(f"--{name}={value}" for name, value in settings.items()), "--resume=None"]

    found = config_of_command([COMMAND, "run", "run", "--config_file", str(files), *flags])

    workflow = ConfigWorkflow(files, logging_file=False, **settings)
    workflow.parser.parse()
    assert found is not None
    assert found == workflow.parser.get()
    assert found["rates"] == found["copy"] == {"segmenter": [3.0, 4]}
    assert found["_meta_"] == {"version": "1"}
    assert "resume" not in found  # as MONAI ignores None


@pytest.mark.parametrize(
    ("flags", "epochs"),
    [
        (["--config_file={base}"], 5),
        (["training", "--config_file", "['{base}']", "--epochs", "7", "--tracking", "mlflow"], 7),
        (["--args_file={arguments}"], 9),
        (["--args_file", "{arguments}", "--epochs", "7"], 7),
        (["--config_file={base}", "--meta_file={other}", "--logging_file=a.conf", "--final_id=b"], 5),
    ],
)
def test_all_ways_to_name_a_config_are_understood(flags: list[str], epochs: int, configs: Path) -> None:
    paths = {path.stem: str(path) for path in configs.iterdir()}

    found = config_of_command([COMMAND, "run", *(flag.format(**paths) for flag in flags)])

    assert found is not None
    assert found["epochs"] == epochs
    assert set(found) == {"_meta_", "epochs", "rates", "copy", "run"}
    assert found["_meta_"] == ({"name": "b"} if any("--meta_file" in flag for flag in flags) else {"version": "1"})


def test_the_written_config_can_be_run_again(configs: Path, tmp_path: Path) -> None:
    found = config_of_command([COMMAND, "run", f"--config_file={configs / 'base.json'}", "--epochs=2"])
    write_config(found or {}, tmp_path / "config.yaml")
    assert config_of_command([COMMAND, "run", f"--config_file={tmp_path / 'config.yaml'}"]) == found


@pytest.mark.parametrize("arguments", [["pytest", "run"], [""], ["server.py"], [COMMAND, "verify_metadata"], [COMMAND]])
def test_any_other_command_has_no_config(arguments: list[str]) -> None:
    assert config_of_command(arguments) is None
