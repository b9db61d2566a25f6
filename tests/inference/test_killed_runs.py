"""Two processes on one output folder, killed at random moments: everything on disk is whole, and running again ends it.

`KILLS=20 pytest tests/inference/test_killed_runs.py` kills more often than CI does.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import diagonal_affine, read_json, write_nifti
from conftest import BUNDLE, as_flags, run_bundle
from hostile import SPACING, ct
from sifa.inference.manifest_file import read_cases
from sifa.inference.manifest_log import log_of
from sifa.inference.output_names import OUTDATED
from sifa.io.nifti_files import load_nifti

KILLS = int(os.environ.get("KILLS", "2"))
SCANS = 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL"),
]


def start(model: Path, scans: Path, output: Path, log: Path) -> subprocess.Popen[bytes]:
    """Starts a run that makes all masks anew."""
    options = {"config_file": BUNDLE / "configs" / "inference.yaml", "model_dir": model, "overwrite": "True"}
    flags = as_flags({**options, "dataset_dir": scans, "output_dir": output, "previews": "True"})
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", *flags]
    return subprocess.Popen(command, stdout=log.open("ab"), stderr=subprocess.STDOUT)


def check_whole(output: Path) -> int:
    """Reads every mask, the manifest, its log and the table to their ends; returns the number of cases."""
    for mask in output.rglob("*_seg.nii.gz"):
        if not mask.name.startswith("."):
            assert np.asarray(load_nifti(mask).dataobj).max() <= 4
    manifest = output / "manifest.json"
    if manifest.is_file():
        assert read_json(manifest)["counts"]
    cases = read_cases(manifest)
    for case in cases:
        assert len([*case.files]) == 2  # mask and preview
        assert all((output / name).is_file() for name in case.files)
    if (output / "volumes.csv").is_file():
        with (output / "volumes.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert all(len(row) == len(rows[0]) and row["structure"] for row in rows)
        assert {row["scan"] for row in rows} <= {case.input for case in cases}
    return len(cases)


def test_killing_two_processes_at_any_moment_leaves_nothing_half_written(trained: Path, tmp_path: Path) -> None:
    scans, output, alone = tmp_path / "scans", tmp_path / "masks", tmp_path / "alone"
    for number in range(SCANS):
        write_nifti(scans / f"{number}.nii.gz", ct() + number, diagonal_affine(SPACING))
    random = np.random.default_rng(KILLS)
    known = 0
    for _ in range(KILLS):
        log = tmp_path / "log"
        processes = [start(trained, scans, output, log) for _ in range(2)]
        before = log.stat().st_size if log.is_file() else 0
        deadline = time.monotonic() + 120
        while b" in " not in log.read_bytes()[before:] and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(random.uniform(0, 2))
        for process in random.permutation(np.array(processes, dtype=object)):
            process.kill()
            time.sleep(random.uniform(0, 0.3))
        for process in processes:
            process.wait()
        assert check_whole(output) >= known, log.read_text(encoding="utf-8")
        known = check_whole(output)
    options: dict[str, Any] = {"model_dir": trained, "dataset_dir": scans, "previews": "True"}

    run_bundle("inference", ["inference.yaml"], output_dir=output, overwrite="True", **options)
    run_bundle("inference", ["inference.yaml"], output_dir=alone, **options)

    assert check_whole(output) == SCANS
    made = {path.name for path in output.rglob("*") if OUTDATED not in path.suffixes}  # set aside: not yet recorded
    assert made == {path.name for path in alone.rglob("*")}
    for number in range(SCANS):
        found, expected = (load_nifti(folder / f"{number}_seg.nii.gz") for folder in (output, alone))
        assert np.array_equal(found.dataobj, expected.dataobj)


def test_a_run_goes_on_where_a_killed_one_stopped(trained: Path, tmp_path: Path) -> None:
    scans, output, log = tmp_path / "scans", tmp_path / "masks", tmp_path / "log"
    for number in range(40):
        write_nifti(scans / f"{number:02}.nii.gz", ct() + number, diagonal_affine(SPACING))
    process = start(trained, scans, output, log)
    deadline = time.monotonic() + 120
    while len(read_cases(output / "manifest.json")) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    known = {case.input for case in read_cases(output / "manifest.json")}
    assert 3 <= len(known) < 40
    assert (output / "manifest.jsonl").is_file()
    assert not (output / "manifest.json").exists()

    options: dict[str, Any] = {"model_dir": trained, "dataset_dir": scans, "output_dir": output, "previews": "True"}
    result = run_bundle("inference", ["inference.yaml"], **options)

    done = [line.split(": already done")[0] for line in result.stdout.splitlines() if ": already done" in line]
    assert {line.split()[-1] for line in done} == known
    listed = [case["input"] for case in read_json(output / "manifest.json")["cases"]]
    assert listed == sorted(path.name for path in scans.iterdir())
    assert check_whole(output) == 40
    assert not (output / "manifest.jsonl").exists()


def test_shards_that_were_killed_go_on_and_are_merged(trained: Path, tmp_path: Path) -> None:
    scans, output = tmp_path / "scans", tmp_path / "masks"
    for number in range(SCANS):
        write_nifti(scans / f"{number}.nii.gz", ct() + number, diagonal_affine(SPACING))
    options: dict[str, Any] = {"model_dir": trained, "dataset_dir": scans, "output_dir": output, "num_shards": 2}
    for shard in range(2):
        run_bundle("inference", ["inference.yaml"], shard=shard, **options)
    manifest = output / "manifest.shard-1-of-2.json"
    cases = read_cases(manifest)
    manifest.unlink()  # as if it had been killed after two scans
    log_of(manifest).write_text("".join(f"{json.dumps(case.to_json())}\n" for case in cases[:2]), encoding="utf-8")
    result = run_bundle("inference", ["inference.yaml"], shard=1, **options)
    assert result.stdout.count("already done") == 2
    assert not log_of(manifest).exists()
    run_bundle("merge", ["inference.yaml"], output_dir=output)
    merged = {case.input for case in read_cases(output / "manifest.json")}
    assert merged == {f"{number}.nii.gz" for number in range(SCANS)}
