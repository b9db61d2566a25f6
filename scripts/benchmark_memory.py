"""Measures peak memory, time and the share of hashing in the time of inference on scans of growing length.

Each scan is segmented in a process of its own.

    python scripts/benchmark_memory.py [--lengths 250,1000] [--model_dir DIR] [--json FILE]

A generated scan has 512 x 512 pixels of 0.8 mm and slices of 0.7 mm: a body with noise in air. The growth is given as a
share of the size of the added slices in float32, which is the most that inference should need.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from command_line import run_command_line
from generated_series import PIXELS, body_slices
from rich.console import Console
from rich.table import Table
from sifa.inference.content_hash import content_hash
from sifa.utils.files import write_json

ROOT = Path(__file__).resolve().parents[1]

SPACING = (0.8, 0.8, 0.7)  # mm
GIB = 2**30


def write_scan(path: Path, slices: int) -> None:
    """Writes a scan of int16 HU; see `body_slices`."""
    volume = np.empty((PIXELS, PIXELS, slices), dtype=np.int16, order="F")
    for index, values in enumerate(body_slices(slices)):
        volume[..., index] = values
    nib.save(nib.Nifti1Image(volume, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])), path)


def peak_memory(command: Sequence[str]) -> int:
    """Runs a command and returns its peak memory in bytes.

    Raises:
        SystemExit: when the command fails.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(errors)
    return usage.ru_maxrss * 1024


def measure(slices: int, flags: Sequence[str]) -> dict[str, Any]:
    """Returns a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.nii.gz"
        writer = get_context("spawn").Process(
            target=write_scan, args=(scan, slices)
        )  # so that its memory is not counted
        writer.start()
        writer.join()
        start = time.monotonic()
        config = ["--config_file", str(ROOT / "bundle" / "configs" / "inference.yaml")]
        command = [sys.executable, "-m", "monai.bundle", "run", "inference", *config, *flags]
        peak = peak_memory([*command, "--dataset_dir", str(scan), "--output_dir", f"{folder}/masks"])
        seconds = time.monotonic() - start
        start = time.monotonic()
        content_hash({"image": scan})
        hashing = time.monotonic() - start
    return {
        "slices": slices,
        "seconds": round(seconds, 1),
        "hash_share_percent": round(100 * hashing / seconds, 1),
        "peak_gib": round(peak / GIB, 3),
    }


def main(lengths: Sequence[int] | int = (250, 1000), model_dir: str | None = None, json: str | None = None) -> None:
    """Prints the table.

    Args:
        lengths: numbers of slices.
        model_dir: folder of `model.pt` and `fingerprint.json`; the bundle's own by default.
        json: file to write the rows to.
    """
    flags = ["--model_dir", model_dir] if model_dir else []
    rows = [measure(slices, flags) for slices in ([lengths] if isinstance(lengths, int) else lengths)]
    for row in rows:
        added = (row["slices"] - rows[0]["slices"]) * PIXELS * PIXELS * 4 / GIB
        row["growth_as_share_of_float32"] = round((row["peak_gib"] - rows[0]["peak_gib"]) / added, 2) if added else None
    table = Table(title=f"{PIXELS} x {PIXELS} pixels")
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=120).print(table)
    if json:
        write_json(Path(json), {"rows": rows})


if __name__ == "__main__":
    run_command_line(main)
