"""Times what feeds a training: slices a second that are drawn, augmented and put into batches, networks left out.

    OMP_NUM_THREADS=1 python scripts/benchmark_loader.py [--size 256] [--batch 8] [--iterations 40] [--workers 4]
        [--json FILE] [--document FILE]

Slices of both domains are generated and augmented as `train.yaml` does it. The first row is this process alone, by the
CPU seconds that it used, which is what a worker does on a core of its own. The second row is the loader with workers by
the clock; it says little where there are fewer free cores than workers. Both are compared with what a training at the
paper's scale takes: 16 slices in each iteration of 0.16 s, measured on an H200.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from benchmark_inference import print_rows
from benchmark_training import build_loader, read_configs
from command_line import run_command_line
from document_tables import put_table
from sifa.utils.files import write_json

ITERATION = 0.16  # s, at batch 8 on an H200: docs/training.md
TAKEN = 2 * 8 / ITERATION  # slices a second


def slices_a_second(size: int, batch: int, iterations: int, workers: int) -> float:
    """Returns slices of both domains a second: CPU seconds of this process without workers, of the clock with them."""
    batches = iter(build_loader(read_configs(1, size), size, batch, iterations + 1 + workers, workers))
    for _ in range(1 + workers):  # until all workers have started
        next(batches)
    clock = time.perf_counter if workers else time.process_time
    start = clock()
    count = sum(len(batch["source_image"]) + len(batch["target_image"]) for batch in batches)
    return count / (clock() - start)


def row_of(way: str, found: float) -> dict[str, Any]:
    """Returns a row of the table."""
    return {"way": way, "slices_per_second": round(found), "of_what_is_taken": round(found / TAKEN, 2)}


def main(
    size: int = 256,
    batch: int = 8,
    iterations: int = 40,
    workers: int = 4,
    json: str | None = None,
    document: str | None = None,
) -> None:
    """Prints the table.

    Args:
        size: rows and columns of a slice.
        batch: slices of each domain in a batch.
        iterations: batches that are timed.
        workers: processes of the second row.
        json: file to write the rows to.
        document: a document whose table `benchmark_loader` is replaced.
    """
    torch.set_num_threads(1)  # as in a worker
    rows = [
        row_of("one worker on a core of its own (CPU seconds)", slices_a_second(size, batch, iterations, 0)),
        row_of(f"{workers} workers (by the clock)", slices_a_second(size, batch, iterations, workers)),
    ]
    print_rows(rows, f"{size} x {size}, batch {batch}; a training takes {TAKEN:.0f} slices a second")
    if json:
        write_json(Path(json), {"rows": rows})
    if document:
        put_table(Path(document), "benchmark_loader", [as_texts(row) for row in rows])


def as_texts(row: dict[str, Any]) -> dict[str, str]:
    """Returns a row as a document has it."""
    return {
        "loader": row["way"],
        "slices a second": str(row["slices_per_second"]),
        "of what a training takes": f"{row['of_what_is_taken']:.2f}",
    }


if __name__ == "__main__":
    run_command_line(main)
