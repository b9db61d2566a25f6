"""The record of a run: what was run on what, and with which config."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from builders import read_json, refusal
from engines import FINGERPRINT, LABELS, go, scripted
from monai.bundle import ConfigWorkflow
from sifa.handlers import RunRecord, TrainingWatch
from sifa.reports.run_environment import describe_code


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
