"""Two processes on one output folder, killed at random moments: everything on disk is whole, and running again ends it.

`KILLS=20 pytest tests/inference/test_killed_runs.py` kills more often than CI does.
"""

from __future__ import annotations

import csv
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
    """Reads every mask, the manifest and the table to their ends; returns the number of cases."""
    for mask in output.rglob("*_seg.nii.gz"):
        if not mask.name.startswith("."):
            assert np.asarray(load_nifti(mask).dataobj).max() <= 4
    manifest = output / "manifest.json"
    cases = read_json(manifest)["cases"] if manifest.is_file() else []
    for case in cases:
        assert (output / case["output"]).is_file()
        assert (output / case["preview"]).is_file()
    if (output / "volumes.csv").is_file():
        with (output / "volumes.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert all(len(row) == len(rows[0]) and row["structure"] for row in rows)
        assert {row["scan"] for row in rows} <= {case["input"] for case in cases}
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
