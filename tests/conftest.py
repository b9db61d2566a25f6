"""What several test modules share: a tiny generated data set, a trained tiny model, the bundle's command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sifa
from fork_server import TIMEOUT_S, run_forked
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundle"
SHARED = ROOT.parent / "shared"

settings.register_profile("repeatable", deadline=None, derandomize=True)  # the same examples in every run
settings.load_profile("repeatable")

RECOMMENDED = ["train.yaml", "recommended.yaml", "compact.yaml"]  # configs of what the documents recommend

TINY: dict[str, Any] = {
    "width": 0.0625,
    "slice_size": "[32,32]",
    "batch_size": 2,
    "epochs": 2,
    "iterations_per_epoch": 2,
}

if not Path(sifa.__file__).is_relative_to(BUNDLE):
    raise RuntimeError(f"sifa is imported from {sifa.__file__}, not from this checkout: run bash scripts/test.sh.")


def as_flags(options: dict[str, Any]) -> list[str]:
    """Returns `--name value` for each option."""
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def run_bundle(
    run_id: str | None,
    configs: Sequence[str],
    bundle: Path = BUNDLE,
    cwd: Path | str = "/",
    check: bool = True,
    fork: bool = True,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m monai.bundle run` in a process of its own, without PYTHONPATH.

    Args:
        run_id: what to run; None for plain `run`.
        configs: names of files in `configs/`.
        bundle: the bundle's folder; relative to `cwd` when relative.
        cwd: the folder to call it from.
        check: whether a non-zero exit status fails the test.
        fork: whether the process is a fork that has imported MONAI, which is faster, or a new one, as a user starts.
        **options: further flags; `__` in a name stands for `#`.
    """
    files = ",".join(f"'{bundle / 'configs' / name}'" for name in configs)
    command = ["-m", "monai.bundle", "run", *([run_id] if run_id else [])]
    flags = as_flags({"config_file": f"[{files}]", **{name.replace("__", "#"): v for name, v in options.items()}})
    return run_python([*command, *flags], cwd, check, fork)


def run_script(name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a script of `scripts/` in a process of its own."""
    return run_python([str(ROOT / "scripts" / name), *arguments], Path.cwd(), check)


def generate_phantom(folder: Path, **options: Any) -> Path:
    """Generates a data set in a new folder, by one process; returns the folder. The options are the script's."""
    run_script("make_phantom.py", str(folder), *as_flags({"workers": 1, **options}))
    return folder


def run_python(
    arguments: Sequence[str], cwd: Path | str, check: bool = True, fork: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs `python <arguments>` in a process of its own, without PYTHONPATH; the arguments are as in `run_bundle`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if fork and hasattr(os, "fork"):
        result = run_forked(arguments, cwd, environment)
    else:
        command = [sys.executable, *arguments]
        result = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=TIMEOUT_S
        )
    if check and result.returncode != 0:
        pytest.fail(f"{result.args} ended with status {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return result


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set: two MR and two CT training subjects, one CT validation and two CT test subjects."""
    counts = {"source_training": 2, "source_validation": 0, "target_training": 2, "target_validation": 1}
    return generate_phantom(tmp_path_factory.mktemp("phantom") / "data", **counts, target_test=2, spacing=5.0)


@pytest.fixture(scope="session")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a tiny SIFA training: model.pt, fingerprint.json, generators, logs."""
    output = tmp_path_factory.mktemp("trained") / "run"
    run_bundle("training", RECOMMENDED, dataset_dir=phantom, output_dir=output, **TINY)
    return output


@pytest.fixture
def shared() -> Path:
    """The folder with real scans; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("real scans lie in ../shared/data beside the checkout, which is absent here")
    return SHARED / "data"
