"""Runs the whole workflow on generated data: adapt from MR to CT, segment a folder of CT scans, measure, draw.

    python scripts/demo.py [--output_dir demo] [--seed 0]

Trains the same compact segmenter twice: with SIFA on one core, and beside it, on another one, without adaptation
(source-only), after the shipped weights have segmented the scans. Writes

    results.json   mean Dice of the CT test scans in percent, and per structure, of both
    report.html    the table, and panels: MR, fake CT, CT, fake MR, prediction, truth
    masks/         masks of the folder of CT test scans, written by `run inference`: of both, and first of the shipped
                   weights, with pictures and a page to look at meanwhile (masks/shipped/index.html)
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from bundle_command import as_flags, bundle, environment
from command_line import run_command_line
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from sifa.reports.pages import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
METHODS = {"source_only": ["source_only.yaml"], "sifa": []}
MARK = "made_by_demo.txt"  # in a folder that may be replaced
EPOCH = re.compile(r"epoch (\d+) of (\d+)")

console = Console()


def script(name: str, **options: Any) -> list[str]:
    """Returns the command line of another script in this folder."""
    return [sys.executable, str(ROOT / "scripts" / name), *as_flags(options)]


class Commands:
    """Runs commands, also at the same time. When one fails, all are stopped, and the demo ends with its sentence."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.running: set[subprocess.Popen[bytes]] = set()
        self.error = ""

    def run(self, command: list[str], log: Path, watch: Callable[[], None] | None = None) -> None:
        """Runs a command with its output in `log`.

        Args:
            command: command line.
            log: file.
            watch: called every second; None: nothing is.

        Raises:
            SystemExit: when it or another one failed.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as stream, self.lock:
            if self.error:
                sys.exit(self.error)
            child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment())
            self.running.add(child)
        while (status := child.poll()) is None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=1)
            if watch is not None:
                watch()
        with self.lock:
            self.running.discard(child)
        if status != 0:
            self.stop(f"error: this command failed with status {status}; {log} says why:\n  {' '.join(command)}")
            sys.exit(self.error)

    def stop(self, error: str) -> None:
        """Stops all commands for a reason; the first reason counts."""
        with self.lock:
            self.error = self.error or error
            for child in self.running:
                child.terminate()


def train(
    method: str, output: Path, data: Path, options: Mapping[str, Any], commands: Commands, progress: Progress
) -> float:
    """Trains a method and returns its seconds; a bar shows the epochs."""
    command = bundle(
        "training",
        ["train.yaml", "recommended.yaml", "compact.yaml", *METHODS[method]],
        dataset_dir=data,
        output_dir=output / "models" / method,
        **options,
    )
    log = output / "logs" / f"training_{method}.log"
    bar = progress.add_task(method, total=options["epochs"])

    def show_epochs() -> None:
        if epochs := EPOCH.findall(log.read_text(encoding="utf-8", errors="replace")):
            done, total = map(int, epochs[-1])
            progress.update(bar, completed=done, total=total)

    started = time.monotonic()
    commands.run(command, log, show_epochs)
    return time.monotonic() - started


def measure(method: str, output: Path, data: Path, commands: Commands) -> dict[str, Any]:
    """Segments the folder of scans with a trained model, draws panels, and measures Dice, all at the same time."""
    model, measured = output / "models" / method, output / "evaluation" / method
    places = {"dataset_dir": output / "scans", "output_dir": output / "masks" / method}
    against = {"dataset_dir": data, "output_dir": measured}
    panels = {"model_dir": model, "dataset_dir": data, "output": output / f"panels_{method}.png"}
    lines = {
        "evaluating": bundle("evaluating", ["train.yaml", "evaluate.yaml"], model_dir=model, **against),
        "inference": bundle("inference", ["inference.yaml"], model_dir=model, **places),
        "panels": script("panels.py", **panels),
    }
    with ThreadPoolExecutor(len(lines)) as pool:
        logs = {name: output / "logs" / f"{name}_{method}.log" for name in lines}
        runs = [pool.submit(commands.run, line, logs[name]) for name, line in lines.items()]
        for each in runs:
            each.result()
    return read_dice(measured / "results.json")


def epochs_bars() -> Progress:
    """Returns the display of trainings: epochs, time passed and time left."""
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=console,
    )


def gather_scans(data: Path, scans: Path) -> None:
    """Copies the images of the target's test scans, without their labels, to a folder of their own."""
    scans.mkdir(parents=True)
    description = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    for item in description["target"]["test"]:
        shutil.copy2(data / item["image"], scans)


def read_dice(results: Path) -> dict[str, Any]:
    """Returns mean Dice and Dice per structure, in percent, from the files that `run evaluating` wrote."""
    dice = json.loads(results.read_text(encoding="utf-8"))["metrics"]["mean_dice"]
    return {
        "mean_dice": round(dice["mean"], 2),
        "structures": {name: round(entry["mean"], 2) for name, entry in dice["structures"].items()},
    }


def show(results: dict[str, Any]) -> None:
    """Prints the Dice table."""
    structures = list(results["sifa"]["structures"])
    table = Table(title="Dice of the CT test scans (%), no CT label used in training")
    for heading in ("", *structures, "mean"):
        table.add_column(heading, justify="right")
    for method in METHODS:
        values = [*(results[method]["structures"][name] for name in structures), results[method]["mean_dice"]]
        table.add_row(method, *(f"{value:.1f}" for value in values))
    console.print(table)


def report(results: dict[str, Any], masks: list[str], seconds: float) -> str:
    """Returns the HTML page with the table, the figures and the list of masks."""
    template = (ROOT / "scripts" / "demo_report.html.j2").read_text(encoding="utf-8")
    return ENVIRONMENT.from_string(template).render(
        results=results,
        methods=list(METHODS),
        structures=list(results["sifa"]["structures"]),
        masks=masks,
        minutes=seconds / 60,
    )


def main(
    output_dir: str = "demo",
    *,
    seed: int = 0,
    epochs: int = 12,
    iterations_per_epoch: int = 100,
    subjects: int = 16,
    test_subjects: int = 6,
) -> None:
    """Runs the demo.

    Args:
        output_dir: folder to write to; must not exist or be that of an earlier demo, which is replaced.
        seed: seed of the data and of both trainings.
        epochs: epochs of each training.
        iterations_per_epoch: iterations of each epoch.
        subjects: MR and CT training subjects, each.
        test_subjects: labeled CT subjects to measure on.
    """
    started = time.monotonic()
    output = Path(output_dir).absolute()
    if output.exists():
        if any(output.iterdir()) and not (output / MARK).is_file():
            sys.exit(f"error: {output} exists and is no earlier demo: give another --output_dir.")
        shutil.rmtree(output)
    output.mkdir(parents=True)
    (output / MARK).write_text("scripts/demo.py made this folder and replaces all of it.\n", encoding="utf-8")
    data = output / "data"
    console.print("Demo on generated data: about 9 minutes on two cores, most of it SIFA's training.")
    console.print("1/3 generating MR and CT subjects")
    counts = {"source_training": subjects, "target_training": subjects, "target_test": test_subjects}
    commands = Commands()
    commands.run(script("make_phantom.py", output_dir=data, seed=seed, **counts), output / "logs" / "data.log")
    gather_scans(data, output / "scans")
    console.print(
        "2/3 adapting with SIFA; beside it segmenting with the shipped weights, then training without adaptation"
    )
    options = {"seed": seed, "epochs": epochs, "iterations_per_epoch": iterations_per_epoch}

    def follow(method: str, progress: Progress) -> tuple[float, dict[str, Any]]:
        seconds = train(method, output, data, options, commands, progress)
        return seconds, measure(method, output, data, commands)

    def show_shipped_and_follow(method: str, progress: Progress) -> tuple[float, dict[str, Any]]:
        first = output / "masks" / "shipped"
        shown = bundle("inference", ["inference.yaml"], dataset_dir=output / "scans", output_dir=first, previews=True)
        commands.run(shown, output / "logs" / "inference_shipped.log")
        progress.console.print(f"    masks after {time.monotonic() - started:.0f} s: look at {first / 'index.html'}")
        return follow(method, progress)

    with epochs_bars() as progress, ThreadPoolExecutor(len(METHODS)) as pool:
        lanes = {
            "source_only": pool.submit(show_shipped_and_follow, "source_only", progress),
            "sifa": pool.submit(follow, "sifa", progress),
        }
        try:
            found = {method: lane.result() for method, lane in lanes.items()}
        except BaseException:
            commands.stop("error: interrupted.")
            raise
    console.print("3/3 writing the report")
    results: dict[str, Any] = {
        "seed": seed,
        "training_seconds": {method: round(seconds) for method, (seconds, _) in found.items()},
        **{method: dice for method, (_, dice) in found.items()},
    }
    masks = sorted(str(path.relative_to(output)) for path in (output / "masks").rglob("*.nii.gz"))
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (output / "report.html").write_text(report(results, masks, time.monotonic() - started), encoding="utf-8")
    show(results)
    console.print(f"{time.monotonic() - started:.0f} s. Look at {output / 'report.html'}")


if __name__ == "__main__":
    run_command_line(main)
