"""Runs the benchmarks of speed again and fails where a ratio in a document is missed by more than a fifth.

    OMP_NUM_THREADS=1 python scripts/check_benchmarks.py --scans FOLDER [--tables inference,refinement,...]

By hand, on a machine that does nothing else. Each benchmark writes its table into a copy of its document, and both
tables are compared row by row. Only ratios are compared, since seconds depend on the machine. `--scans` is a folder
with the real scans that the tables name; tables without real scans do not need it. The exit status is 1 when a ratio is
missed, and each one is named.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark_options import choose
from command_line import run_command_line
from document_tables import read_table
from sifa.utils.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ROOT / "bundle" / "docs"

ALLOWED = 1.2  # how many times worse than documented a ratio may be
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Benchmark(NamedTuple):
    """A table of a document and the command that writes it."""

    document: str
    table: str  # the comment before it
    command: str  # a script and its options, without --document
    keys: tuple[str, ...]  # headings of the columns that name a row
    higher: tuple[str, ...] = ()  # headings of ratios of which more is better
    lower: tuple[str, ...] = ()  # headings of ratios of which less is better
    scans: tuple[str, ...] = ()  # real scans, given to the command first


FASTER = ("times faster",)
BENCHMARKS = {
    "inference": Benchmark(
        *("inference.md", "benchmark_inference", "benchmark_inference.py --repeats 5", ("scan", "way")),
        higher=(*FASTER, "times faster, compiled PAMR in both"),
    ),
    "refinement": Benchmark(
        *("inference.md", "benchmark_refinement", "benchmark_refinement.py --repeats 4", ("windows",)),
        lower=("share of the network, compiled",),
        scans=("cardiac_ct_1p5mm.nii.gz", "abdomen_ct_3mm.nii.gz", "dicom_ct"),
    ),
    "processes": Benchmark(
        *("inference.md", "benchmark_processes", "benchmark_processes.py --scans 6 --slices 24 --rounds 1", ("way",)),
        higher=("times faster by CPU seconds",),
    ),
    "engines": Benchmark(
        *("exports.md", "benchmark_engines", "benchmark_engines.py --repeats 3", ("scan", "engine")),
        higher=FASTER,
        scans=("cardiac_ct_1p5mm.nii.gz", "abdomen_ct_3mm.nii.gz"),
    ),
    "engines128": Benchmark(
        *("exports.md", "benchmark_engines 128", "benchmark_engines.py --slice_size 128 --repeats 3"),
        ("scan", "engine"),
        higher=FASTER,
        scans=("ct_01.nii.gz",),
    ),
    "training": Benchmark(
        *("training.md", "benchmark_training width=0.25 size=64 batch=4"),
        "benchmark_training.py --width 0.25 --size 64 --batch 4 --iterations 3",
        ("schedule", "precision"),
        lower=("of naive",),
    ),
    "loader": Benchmark(
        *("training.md", "benchmark_loader", "benchmark_loader.py --iterations 20", ("loader",)),
        higher=("of what a training takes",),
    ),
}


def missed(
    benchmark: Benchmark, documented: Sequence[Mapping[str, str]], found: Sequence[Mapping[str, str]]
) -> list[str]:
    """Returns a sentence for each documented ratio that was missed by more than a fifth, and each row that is gone.

    Args:
        benchmark: names the columns.
        documented: rows of the document.
        found: rows that were measured now.
    """
    measured = {tuple(row[key] for key in benchmark.keys): row for row in found}
    sentences = []
    for row in documented:
        key = tuple(row[name] for name in benchmark.keys)
        place = f"{benchmark.document}, {', '.join(key)}"
        if key not in measured:
            sentences.append(f"{place}: the benchmark has no such row any more: write its table again.")
            continue
        for name in (*benchmark.higher, *benchmark.lower):
            was, now = number_of(row[name]), number_of(measured[key][name])
            if was is None:
                continue
            worst = was / ALLOWED if name in benchmark.higher else was * ALLOWED
            if now is None or (now < worst if name in benchmark.higher else now > worst):
                sentences.append(f"{place}: {name} is {measured[key][name] or 'missing'}, documented is {row[name]}.")
    return sentences


def number_of(cell: str) -> float | None:
    """Returns the number in a cell, whatever its unit; None where it is empty."""
    found = NUMBER.search(cell)
    return float(found[0]) if found else None


def check(benchmark: Benchmark, scans: Path | None) -> list[str]:
    """Runs a benchmark and returns what it missed.

    Raises:
        InputError: when a scan is missing, or the benchmark failed.
    """
    documented = read_table(DOCUMENTS / benchmark.document, benchmark.table)
    script, *options = benchmark.command.split()
    given = scans_of(benchmark, scans)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(DOCUMENTS / benchmark.document, folder)
        command = [sys.executable, str(ROOT / "scripts" / script), *given, *options, "--document", copy]
        if subprocess.run(command, check=False).returncode:
            raise InputError(f"{script}: it failed, as it says above; run it alone.")
        return missed(benchmark, documented, read_table(Path(copy), benchmark.table))


def scans_of(benchmark: Benchmark, folder: Path | None) -> list[str]:
    """Returns the real scans that a benchmark needs.

    Raises:
        InputError: when there is no folder, or a scan is not in it.
    """
    if benchmark.scans and folder is None:
        raise InputError(f"{benchmark.table}: it needs real scans: give their folder as --scans, or other --tables.")
    found = [Path(folder or ".") / name for name in benchmark.scans]
    for scan in found:
        if not scan.exists():
            raise InputError(f"{scan}: there is no such scan: give the folder that holds it as --scans.")
    return list(map(str, found))


def main(scans: str | None = None, tables: Sequence[str] | str = tuple(BENCHMARKS)) -> None:
    """Checks tables of the documents.

    Args:
        scans: folder of the real scans that tables name.
        tables: any of inference, refinement, processes, engines, engines128, training, loader.
    """
    chosen = [BENCHMARKS[name] for name in choose("tables", tables, tuple(BENCHMARKS))]
    folder = None if scans is None else Path(scans)
    for benchmark in chosen:  # before any of them runs
        read_table(DOCUMENTS / benchmark.document, benchmark.table)
        scans_of(benchmark, folder)
    sentences = [sentence for benchmark in chosen for sentence in check(benchmark, folder)]
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    if sentences:
        sys.exit(f"error: {len(sentences)} documented ratios are missed by more than a fifth.")
    print(f"{len(chosen)} tables: no documented ratio is missed by more than a fifth.")


if __name__ == "__main__":
    run_command_line(main)
