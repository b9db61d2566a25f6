"""Trains and measures the cells of the benchmark: a method on a data set with a seed, in a folder of its own."""

from __future__ import annotations

import csv
import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from bundle_command import CONFIGS, bundle, environment
from sifa.utils.files import write_json

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bundle" / "sifa"

TICK = 5  # seconds between two records of a training's duration, which survive an interruption


@dataclass(frozen=True)
class Data:
    """A data set; if it is generated, with one seed."""

    name: str
    seed: int
    folder: Path
    content: str  # hash
    configs: tuple[str, ...]
    split: str
    generate: tuple[str, ...] = ()  # the command that makes the folder

    @property
    def is_there(self) -> bool:
        """Returns whether the folder is complete: its dataset.json is written last."""
        return (self.folder / "dataset.json").is_file()


@dataclass(frozen=True)
class Cell:
    """One method on one data set with one seed.

    Args:
        data: the data set.
        method: its name.
        parent: folder of all cells.
        configs: overlays that follow those of the data set.
        base: overlays that come before those of the data set.
        options: further options of the command.
        run: the run ID that creates the model to measure; `evaluating`: none, the model of `after` is measured.
        after: the cell whose model this one starts from.
    """

    data: Data
    method: str
    parent: Path
    configs: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    run: str = "training"
    after: Cell | None = None
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        name = f"{self.data.name}-{self.method}-{self.data.seed}-{self._key()}"
        object.__setattr__(self, "folder", self.parent / name)

    @property
    def name(self) -> str:
        """Description for messages."""
        return f"{self.data.name}, {self.method}, seed {self.data.seed}"

    @property
    def result(self) -> Path:
        """The file that marks a complete cell."""
        return self.folder / "result.json"

    @property
    def makes_model(self) -> bool:
        """Returns whether the cell creates a model of its own; otherwise that of `after` is measured."""
        return self.run != "evaluating"

    @property
    def model(self) -> Path:
        """The folder of the model that is measured."""
        if self.makes_model:
            return self.folder
        assert self.after is not None  # a test of benchmark.yaml ensures this
        return self.after.folder

    @property
    def clock(self) -> Path:
        """The file with the seconds of training so far, and whether it has finished."""
        return self.folder / "training_seconds.json"

    @property
    def work(self) -> Path:
        """The file with the operations of the training."""
        return self.folder / "work.json"

    @property
    def training_configs(self) -> tuple[str, ...]:
        """The config files of the training, in order."""
        return ("train.yaml", *self.base, *self.data.configs, *self.configs)

    def training_command(self) -> list[str]:
        """Returns the command that creates the model in the cell's folder."""
        start: dict[str, Any] = {"resume": "auto"} if self.run == "training" else {}
        if self.after:
            start["initial_weights" if self.run == "training" else "model_dir"] = self.after.folder
        folders = {"dataset_dir": self.data.folder, "output_dir": self.folder}
        # no workers: other cells run at the same time
        options = {**start, **folders, "seed": self.data.seed, "num_workers": 0, **self.options}
        return bundle(self.run, self.training_configs, **options)

    def evaluating_command(self) -> list[str]:
        """Returns the command that measures the model."""
        folders = {"model_dir": self.model, "dataset_dir": self.data.folder, "output_dir": self.folder / "evaluation"}
        options = {} if self.makes_model else self.options
        return bundle("evaluating", ["train.yaml", "evaluate.yaml"], **folders, split=self.data.split, **options)

    def work_command(self) -> list[str]:
        """Returns the command that counts the operations of an iteration of the training."""
        script = Path(__file__).with_name("benchmark_work.py")
        return [sys.executable, str(script), str(self.folder), str(self.data.folder), str(self.work)]

    def _key(self) -> str:
        """Returns 12 digits of a hash of everything that the result depends on."""
        names = (*self.training_configs, "evaluate.yaml")
        content = {
            "configs": [hash_file(CONFIGS / name) for name in names],
            "options": self.options,
            "run": self.run,
            "after": self.after.folder.name if self.after else None,
            "package": hash_folder(PACKAGE, "*.py"),
            "data": self.data.content,
            "seed": self.data.seed,
            "split": self.data.split,
        }
        return hash_text(json.dumps(content, sort_keys=True))[:12]


class CommandError(RuntimeError):
    """A command failed; `log` holds the reason."""

    def __init__(self, log: Path, status: int) -> None:
        super().__init__(f"exit status {status}, see {log}")


class Processes:
    """The running child processes, which are stopped together with this one."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.running: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def run(self, command: Sequence[str], log: Path, clock: Path | None = None) -> None:
        """Runs a command, appends its output to `log` and adds its seconds to those in `clock`.

        Raises:
            CommandError: when it fails.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        before, started = read_seconds(clock), time.monotonic()
        with open(log, "ab") as stream:
            process = self._start(command, stream)
            while process.returncode is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(TICK)
                if clock:
                    seconds = round(before + time.monotonic() - started, 1)
                    write_json(clock, {"seconds": seconds, "finished": process.returncode == 0})
        self.running.discard(process)
        if process.returncode != 0:
            raise CommandError(log, process.returncode)

    def stop(self) -> None:
        """Terminates all processes and lets no more start."""
        with self.lock:
            self.stopped = True
            for process in list(self.running):
                process.terminate()

    def _start(self, command: Sequence[str], stream: Any) -> subprocess.Popen[bytes]:
        with self.lock:
            if self.stopped:
                raise KeyboardInterrupt
            process = subprocess.Popen(  # in a session of its own, so that Ctrl-C reaches it only through `stop`
                command, stdout=stream, stderr=subprocess.STDOUT, env=environment(), start_new_session=True
            )
            self.running.add(process)
        return process


def run_cell(cell: Cell, processes: Processes) -> dict[str, Any]:
    """Runs the steps that a cell still lacks, and returns its result.

    Raises:
        CommandError: when a command fails.
    """
    if cell.makes_model and not (cell.clock.is_file() and read_json(cell.clock)["finished"]):
        processes.run(cell.training_command(), cell.folder / "logs" / f"{cell.run}.log", cell.clock)
    if cell.run == "training" and not cell.work.is_file():
        processes.run(cell.work_command(), cell.folder / "logs" / "work.log")
    processes.run(cell.evaluating_command(), cell.folder / "logs" / "evaluating.log")
    measured = read_json(cell.folder / "evaluation" / "results.json")
    before = read_json(cell.after.result) if cell.after else {"training_seconds": 0, "tmac": 0}
    seconds = read_seconds(cell.clock) + before["training_seconds"]
    own_work = read_json(cell.work)["tmac"] if cell.work.is_file() else 0
    result = {
        "dataset": cell.data.name,
        "method": cell.method,
        "seed": cell.data.seed,
        "training_seconds": round(seconds, 1),
        "tmac": round(own_work + before["tmac"], 3),
        "gate_open": read_gate(cell.folder / "scalars.csv"),
        "device": read_device(cell.after or cell),
        **measured,
    }
    write_json(cell.result, result)
    return result


def read_gate(path: Path) -> float | None:
    """Returns the share of iterations in which the gate of a method was open; None where it has no gate."""
    if not path.is_file():
        return None
    with open(path, encoding="utf-8", newline="") as stream:
        opened = [float(row["gate_open"]) for row in csv.DictReader(stream) if row.get("gate_open")]
    return round(statistics.fmean(opened), 4) if opened else None


def read_device(cell: Cell) -> str:
    """Returns the name of the device that a cell was trained on, from its run record."""
    return str(read_json(cell.folder / "run.json")["sessions"][-1]["device_name"])


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_seconds(clock: Path | None) -> float:
    """Returns the seconds that a training has run so far; 0 before its start."""
    return float(read_json(clock)["seconds"]) if clock and clock.is_file() else 0.0


def hash_text(text: str) -> str:
    """Returns the sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Returns the sha256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_folder(folder: Path, pattern: str = "*") -> str:
    """Returns the sha256 of the names and contents of all files below a folder."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    return hash_text(json.dumps([(path.relative_to(folder).as_posix(), hash_file(path)) for path in files]))
