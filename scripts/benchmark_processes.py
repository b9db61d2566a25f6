"""Times `run inference` over a folder of scans: with and without reading ahead, in one process and in two.

    OMP_NUM_THREADS=1 python scripts/benchmark_processes.py [--scans 8] [--slices 48] [--rounds 2] [--document FILE]

DICOM series of 512 x 512 pixels are generated and segmented by the shipped weights, each process on one thread. The
first scan of each process, which loads and compiles more than the others, and the start of Python are left out. Scans
an hour are given by the clock and by the CPU seconds that the kernel counted: where other programs use the same cores,
the latter tell what free cores would give. The ways take turns, and the best of each counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmark_inference import print_rows
from bundle_command import bundle, environment
from command_line import run_command_line
from document_tables import put_table
from generated_series import write_series
from sifa.inference.manifest_file import read_cases
from sifa.utils.files import write_json

WAYS = {  # number of processes, and whether they read ahead
    "one process, `--read_ahead False`": (1, False),
    "one process": (1, True),
    "two processes, `--read_ahead False`": (2, False),
    "two processes": (2, True),
}


def run(scans: Path, output: Path, processes: int, read_ahead: bool) -> list[float]:
    """Segments a folder and returns the CPU seconds of each process."""
    options = {"dataset_dir": scans, "output_dir": output, "read_ahead": read_ahead, "num_shards": processes}
    commands = [bundle("inference", ["inference.yaml"], **options, shard=shard) for shard in range(processes)]
    silent: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, env=environment(), **silent) for command in commands]
    seconds = []
    for process in running:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"error: {' '.join(commands[0])} ended with status {process.returncode}.")
        seconds.append(usage.ru_utime + usage.ru_stime)
    return seconds


def scans_a_second(scans: Path, processes: int, read_ahead: bool) -> tuple[float, float]:
    """Returns the scans a second of all processes together, by the clock and by CPU seconds, without their first."""
    names = sorted(path.name for path in scans.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        firsts = Path(folder) / "scans"
        firsts.mkdir()
        for name in names[:processes]:
            (firsts / name).symlink_to(scans / name)
        starting = run(firsts, Path(folder) / "first", processes, read_ahead)
        working = run(scans, Path(folder) / "all", processes, read_ahead)
        cases = {case.input: case for path in Path(folder, "all").glob("manifest*.json") for case in read_cases(path)}
    shards = [names[shard + processes :: processes] for shard in range(processes)]
    clock = sum(len(shard) / sum(cases[name].seconds for name in shard) for shard in shards)
    used = zip(shards, working, starting, strict=True)
    return clock, sum(len(shard) / (all_of_them - first) for shard, all_of_them, first in used)


def measure(scans: Path, rounds: int) -> list[dict[str, Any]]:
    """Returns a row for each way."""
    best = dict.fromkeys(WAYS, (0.0, 0.0))
    for _ in range(rounds):
        for way, (processes, read_ahead) in WAYS.items():
            pairs = zip(best[way], scans_a_second(scans, processes, read_ahead), strict=True)
            best[way] = tuple(map(max, pairs))  # type: ignore[assignment]
    clock, cpu = next(iter(best.values()))
    return [
        {
            "way": way,
            "scans_an_hour": round(3600 * found[0]),
            "times_faster": round(found[0] / clock, 2),
            "scans_an_hour_cpu": round(3600 * found[1]),
            "times_faster_cpu": round(found[1] / cpu, 2),
        }
        for way, found in best.items()
    ]


def as_texts(row: dict[str, Any]) -> dict[str, str]:
    """Returns a row as a document has it."""
    return {
        "way": row["way"],
        "scans an hour": str(row["scans_an_hour"]),
        "times faster": f"{row['times_faster']:.2f}",
        "scans an hour by CPU seconds": str(row["scans_an_hour_cpu"]),
        "times faster by CPU seconds": f"{row['times_faster_cpu']:.2f}",
    }


def main(
    scans: int = 8, slices: int = 48, rounds: int = 2, json: str | None = None, document: str | None = None
) -> None:
    """Prints the table.

    Args:
        scans: how many series.
        slices: of each.
        rounds: how often each way takes its turn.
        json: file to write the rows to.
        document: a document whose table `benchmark_processes` is replaced.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number in range(scans):
            write_series(Path(folder) / f"{number:03}", slices)
        rows = measure(Path(folder), rounds)
    print_rows(rows, f"{scans} series of 512 x 512 x {slices}, one thread a process")
    if json:
        write_json(Path(json), {"rows": rows})
    if document:
        put_table(Path(document), "benchmark_processes", [as_texts(row) for row in rows])


if __name__ == "__main__":
    run_command_line(main)
