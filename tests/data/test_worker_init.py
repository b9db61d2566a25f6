"""The worker processes of a loader, and which signals end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from conftest import BUNDLE

LOADER = """
import signal
from torch.utils.data import DataLoader
from sifa.data.worker_init import start_worker

for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)  # as in training, which completes its iteration
batches = iter(DataLoader(range(60), num_workers=2, worker_init_fn=start_worker, prefetch_factor=1))
first = [next(batches), next(batches)]  # of both workers
print("started", flush=True)
"""
needs_the_sender = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the sender of a signal")


@contextmanager
def program(*lines: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a program that has drawn from both workers, in a process group of its own that is killed at the end."""
    command = [sys.executable, "-c", "\n".join((LOADER, *lines))]
    environment = {**os.environ, "PYTHONPATH": str(BUNDLE)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@needs_the_sender
def test_a_signal_that_reaches_all_processes_leaves_the_workers_at_work() -> None:
    """As torchrun and Slurm send it."""
    with program("input()", "print(len([*first, *batches]))") as process:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.killpg(process.pid, number)
        output, error = process.communicate("go on\n", timeout=120)

    assert output.split() == ["60"], error


@pytest.mark.slow
def test_a_program_that_fails_ends_its_workers() -> None:
    with program('raise ValueError("the training failed")') as process:
        _, error = process.communicate(timeout=120)

    assert error.endswith("ValueError: the training failed\n")
    assert process.returncode == 1
