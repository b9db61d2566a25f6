"""Runs the whole workflow on generated data: adapt from MR to CT, segment a folder of CT scans, measure, draw.

    python scripts/demo.py [--output_dir demo] [--seed 0]

Trains the same compact segmenter twice, side by side on two cores: without adaptation (source-only) and with SIFA.
Writes

    results.json   mean Dice of the CT test scans in percent, and per structure, of both
    report.html    the table, and panels: MR, fake CT, CT, fake MR, prediction, truth
    masks/         masks of the folder of CT test scans, written by `run inference`: of both, and first of the shipped
                   weights, with pictures and a page to look at while the trainings run (masks/shipped/index.html)
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
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


def run(command: list[str], log: Path) -> None:
    """Runs a command with its output in `log`; ends the demo with a sentence when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as stream:
        status = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, env=environment()).returncode
    if status != 0:
        sys.exit(f"error: this command failed with status {status}; {log} says why:\n  {' '.join(command)}")


def train(output: Path, data: Path, options: Mapping[str, Any]) -> dict[str, float]:
    """Trains all methods at the same time, each in its own process, and returns their seconds."""
    started = time.monotonic()
    children: dict[str, subprocess.Popen[bytes]] = {}
    logs = {method: output / "logs" / f"training_{method}.log" for method in METHODS}
    for method, overlays in METHODS.items():
        command = bundle(
            "training",
            ["train.yaml", "recommended.yaml", "compact.yaml", *overlays],
            dataset_dir=data,
            output_dir=output / "models" / method,
            **options,
        )
        logs[method].parent.mkdir(parents=True, exist_ok=True)
        with open(logs[method], "wb") as stream:
            children[method] = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment())
    seconds: dict[str, float] = {}
    try:
        with Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
        ) as progress:
            bars = {method: progress.add_task(method, total=options["epochs"]) for method in METHODS}
            while len(seconds) < len(children):
                time.sleep(1)
                for method, child in children.items():
                    epochs = EPOCH.findall(logs[method].read_text(encoding="utf-8", errors="replace"))
                    if epochs:
                        done, total = map(int, epochs[-1])
                        progress.update(bars[method], completed=done, total=total)
                    if method not in seconds and child.poll() is not None:
                        seconds[method] = time.monotonic() - started
                        if child.returncode != 0:
                            sys.exit(
                                f"error: training {method} failed with status {child.returncode}; see {logs[method]}"
                            )
    finally:
        for child in children.values():
            if child.poll() is None:
                child.terminate()
    return seconds


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
    console.print("1/5 generating MR and CT subjects")
    counts = {"source_training": subjects, "target_training": subjects, "target_test": test_subjects}
    run(script("make_phantom.py", output_dir=data, seed=seed, **counts), output / "logs" / "data.log")
    gather_scans(data, output / "scans")
    console.print("2/5 segmenting the folder of CT test scans with the shipped weights")
    first = output / "masks" / "shipped"
    shown = bundle("inference", ["inference.yaml"], dataset_dir=output / "scans", output_dir=first, previews=True)
    run(shown, output / "logs" / "inference_shipped.log")
    console.print(f"    first masks after {time.monotonic() - started:.0f} s: look at {first / 'index.html'}")
    console.print("3/5 training without adaptation and with SIFA, side by side")
    options = {"seed": seed, "epochs": epochs, "iterations_per_epoch": iterations_per_epoch}
    seconds = train(output, data, options)
    console.print("4/5 segmenting the same folder with both, measuring")
    results: dict[str, Any] = {
        "seed": seed,
        "training_seconds": {name: round(value) for name, value in seconds.items()},
    }
    for method in METHODS:
        model, measured = output / "models" / method, output / "evaluation" / method
        run(
            bundle(
                "inference",
                ["inference.yaml"],
                model_dir=model,
                dataset_dir=output / "scans",
                output_dir=output / "masks" / method,
            ),
            output / "logs" / f"inference_{method}.log",
        )
        run(
            bundle(
                "evaluating", ["train.yaml", "evaluate.yaml"], model_dir=model, dataset_dir=data, output_dir=measured
            ),
            output / "logs" / f"evaluating_{method}.log",
        )
        results[method] = read_dice(measured / "results.json")
    console.print("5/5 drawing")
    for method in METHODS:
        panels = {
            "model_dir": output / "models" / method,
            "dataset_dir": data,
            "output": output / f"panels_{method}.png",
        }
        run(script("panels.py", **panels), output / "logs" / f"panels_{method}.log")
    masks = sorted(str(path.relative_to(output)) for path in (output / "masks").rglob("*.nii.gz"))
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (output / "report.html").write_text(report(results, masks, time.monotonic() - started), encoding="utf-8")
    show(results)
    console.print(f"{time.monotonic() - started:.0f} s. Look at {output / 'report.html'}")


if __name__ == "__main__":
    run_command_line(main)
