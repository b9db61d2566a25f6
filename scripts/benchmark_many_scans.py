"""Measures what grows with the number of scans: time and memory of a run, and the cost of manifest and index page.

    python scripts/benchmark_many_scans.py [--counts 100,1000] [--json FILE]

Tiny scans (16 x 4 x 16 voxels) are generated and segmented by the shipped weights, each number of scans by a process of
its own. The manifest is then made anew from the cases of that run, and timed, and so is the page, with a picture for
each scan; where Chromium is installed, the page is opened in it.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from benchmark_inference import print_rows
from benchmark_memory import peak_memory
from bundle_command import bundle
from command_line import run_command_line
from PIL import Image
from sifa.inference.case import Case
from sifa.inference.manifest import Manifest
from sifa.inference.manifest_file import read_cases
from sifa.reports.case_index import write_index
from sifa.utils.files import write_json

SHAPE = (16, 4, 16)  # four coronal slices, the plane of the shipped weights
SPACING = (10.0, 10.0, 10.0)  # mm
PICTURE = (1200, 400)  # pixels
LAST = 100  # scans whose mean time is given


def write_scans(folder: Path, count: int) -> None:
    """Writes scans of noise around 40 HU."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        volume = generator.normal(40, 30, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(volume, np.diag([*SPACING, 1.0])), folder / f"{number:06}.nii.gz")


def time_manifest(output: Path, cases: Sequence[Case]) -> dict[str, float]:
    """Records cases anew as a run does; returns milliseconds a scan, of the last ones and of what comes at the end."""
    for path in output.glob("manifest.json*"):
        path.unlink()
    manifest = Manifest(output, "settings", 0, 1, output)
    times = []
    for case in cases:
        start = time.perf_counter()
        manifest.of_scan(case.input)
        manifest.is_current(case.input, str(case.signature), case.extras or ())
        manifest.record(replace(case, folder=None))
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    manifest.fold()
    folded = time.perf_counter()
    write_index(output, manifest.content() | {"model": "model"})
    end = time.perf_counter()
    return {
        "record_ms": round(1e3 * float(np.mean(times[-LAST:])), 3),
        "manifest_ms": round(1e3 * (folded - start) / len(cases), 3),
        "index_ms": round(1e3 * (end - folded) / len(cases), 3),
    }


def with_picture(case: Case, output: Path) -> Case:
    """Returns a case with a preview, a gray picture of the usual size."""
    name = f"{case.input.split('.')[0]}_preview.png"
    Image.new("L", PICTURE, 128).save(output / name)
    return replace(case, preview=name)


def time_page(page: Path) -> float | None:
    """Returns the seconds that a page takes to load beyond an empty one, the shortest of three; None: no Chromium.

    Pictures that are marked as lazy load as in a browser with a window, which Chromium has to be told without one.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return None
    empty = page.with_name("empty.html")
    empty.write_text("<html></html>", encoding="utf-8")
    best = dict.fromkeys((empty, page), math.inf)
    lazy = ["--blink-settings=lazyLoadEnabled=true", "--window-size=1300,900"]
    for path in (empty, page) * 3:
        start = time.perf_counter()
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *lazy, "--dump-dom", path.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        best[path] = min(best[path], time.perf_counter() - start)
    return round(best[page] - best[empty], 2)


def measure(count: int) -> dict[str, Any]:
    """Returns a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        scans, output = Path(folder) / "scans", Path(folder) / "masks"
        write_scans(scans, count)
        start = time.monotonic()
        peak = peak_memory(bundle("inference", ["inference.yaml"], dataset_dir=scans, output_dir=output))
        seconds = time.monotonic() - start
        cases = read_cases(output / "manifest.json")
        if len(cases) != count:
            sys.exit(f"{output}: {len(cases)} of {count} scans are in the manifest.")
        measured = time_manifest(output, [with_picture(case, output) for case in cases])
        page = (output / "index.html").stat().st_size
        loading = time_page(output / "index.html")
    return {
        "scans": count,
        "seconds": round(seconds, 1),
        "peak_mib": round(peak / 2**20),
        **measured,
        "page_kib": round(page / 1024),
        "page_seconds": loading,
    }


def main(counts: Sequence[int] | int = (100, 1000), json: str | None = None) -> None:
    """Prints the table.

    Args:
        counts: numbers of scans.
        json: file to write the rows to.
    """
    rows = [measure(count) for count in ([counts] if isinstance(counts, int) else counts)]
    print_rows(rows, f"{' x '.join(map(str, SHAPE))} voxels; milliseconds a scan")
    if json:
        write_json(Path(json), {"rows": rows})


if __name__ == "__main__":
    run_command_line(main)
