"""Builds command lines of the bundle, and the environment in which two of them run side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).resolve().parents[1] / "bundle" / "configs"


def bundle(run_id: str, configs: Sequence[str], **options: Any) -> list[str]:
    """Returns the command line of `python -m monai.bundle run`."""
    files = ",".join(f"'{CONFIGS / name}'" for name in configs)
    return [sys.executable, "-m", "monai.bundle", "run", run_id, *as_flags({"config_file": f"[{files}]", **options})]


def as_flags(options: Mapping[str, Any]) -> list[str]:
    """Returns `--name value` for each option."""
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def environment() -> dict[str, str]:
    """Returns the environment of child processes: one thread each, so that two of them share two cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
