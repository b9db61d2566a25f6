"""Compares the network that model selection chooses with the last one and with the best one.

    python scripts/benchmark_selection.py OUTPUT --seeds 0,1,2 [--dataset phantom] [--abdomen DIR] [--document FILE]

Trains the recommended setting like benchmark.py, or reuses its cells, and measures the networks of all epochs on
labeled target scans: last iteration, last weight average, the chosen average, the one that agrees best with the
majority vote of all epochs (EnsV, NeurIPS 2024, here by Dice on the target scans of training), the best one (the
oracle, which needs labels), and Spearman's rank correlation between the score and mean Dice over the epochs. Writes
OUTPUT/selection.json; `--document` replaces the table between `<!-- benchmark <data set> selection -->` and
`<!-- end -->`. Complete cells are not run again.
"""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark import run_cells
from benchmark_cells import Cell, CommandError, Processes, bundle, read_json
from benchmark_options import DECLARATION, check_seeds, choose, read_declaration, run_resumable
from benchmark_plan import plan_cells, plan_data
from benchmark_report import as_text, replace_table, require_table, show, spread
from rich.console import Console
from scipy.stats import spearmanr
from sifa import Segmenter
from sifa.data.dataset_json import read_dataset
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.quality_control.signals import count_overlap, dice_of
from sifa.training.checkpoint import NAME, read_state
from sifa.utils.files import temporary_beside, write_json

METHOD = "recommended"
ROWS = {
    "last_weights": "last iteration",
    "last": "last epoch, weight average",
    "chosen": "chosen without labels",
    "voted": "agrees best with the vote of all epochs",
    "oracle": "best epoch (oracle)",
}

console = Console(soft_wrap=True)


def write_last_weights(cell: Cell) -> Path:
    """Writes the segmenter of the last iteration (not the weight average) to a folder and returns the folder."""
    folder = cell.folder / "last_weights"
    if not (folder / "model.pt").is_file():
        folder.mkdir(exist_ok=True)
        shutil.copy2(cell.folder / "fingerprint.json", folder)
        state = read_state(cell.folder / NAME)["update"]["networks"]["segmenter"]
        with temporary_beside(folder / "model.pt") as temporary:
            torch.save(state, temporary)
    return folder


def measure(cell: Cell, model: Path, processes: Processes) -> float:
    """Returns mean Dice in percent of the model in a folder of the cell; measures it if that was not done before."""
    output = cell.folder / "selection" / model.relative_to(cell.folder)
    if not (output / "results.json").is_file():
        options = {"model_dir": model, "dataset_dir": cell.data.folder, "output_dir": output, "split": cell.data.split}
        processes.run(bundle("evaluating", ["train.yaml", "evaluate.yaml"], **options), output / "evaluating.log")
    return float(read_json(output / "results.json")["metrics"]["mean_dice"]["mean"])


def vote_scores(cell: Cell) -> list[float]:
    """Returns the agreement of each epoch with the majority vote of all: mean Dice of structures, from 0 to 1."""
    path = cell.folder / "selection" / "vote.json"
    if path.is_file():
        known: list[float] = read_json(path)["scores"]
        return known
    segmenters = [Segmenter.from_run(epoch, device="cpu") for epoch in sorted((cell.folder / "epochs").iterdir())]
    classes = read_fingerprint(cell.folder / "fingerprint.json").network.out_channels
    counts = np.zeros((len(segmenters), 3, classes), dtype=np.int64)
    for item in read_dataset(cell.data.folder / "dataset.json").target_training:
        masks = np.stack([np.asarray(segmenter.segment(item["image"]).mask) for segmenter in segmenters])
        vote = np.stack([(masks == label).sum(axis=0) for label in range(classes)]).argmax(axis=0)
        counts += np.stack([count_overlap(mask, vote, classes) for mask in masks])
    scores = [float(dice_of(one)[1:].mean()) for one in counts]
    write_json(path, {"scores": scores})
    return scores


def compare(cell: Cell, processes: Processes) -> dict[str, Any]:
    """Measures the networks of a trained cell and returns the figures."""
    epochs = sorted((cell.folder / "epochs").iterdir())
    dice = [measure(cell, epoch, processes) for epoch in epochs]
    with open(cell.folder / "selection.csv", encoding="utf-8", newline="") as stream:
        scores = [float(row["score"]) for row in csv.DictReader(stream)]
    chosen = max(range(len(scores)), key=lambda epoch: (scores[epoch], epoch))
    votes = vote_scores(cell)
    return {
        "seed": cell.data.seed,
        "scores": scores,
        "dice": dice,
        "last_weights": measure(cell, write_last_weights(cell), processes),
        "last": dice[-1],
        "chosen": dice[chosen],
        "votes": votes,
        "voted": dice[int(np.argmax(votes))],
        "oracle": max(dice),
        "rank_correlation": float(spearmanr(scores, dice).statistic),
    }


def table(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Returns the cells of the table, headings first."""
    lines = [["mean Dice (%)", *(f"seed {result['seed']}" for result in results), "mean"]]
    for name, label in ROWS.items():
        values = [result[name] for result in results]
        lines.append([label, *(f"{value:.1f}" for value in values), as_text(spread(values))])
    ranks = [result["rank_correlation"] for result in results]
    return [*lines, ["rank correlation of score and Dice", *(f"{one:.2f}" for one in ranks), as_text(spread(ranks), 2)]]


def main(
    output: str,
    seeds: Any = 0,
    dataset: str = "phantom",
    jobs: int = 2,
    epochs: int | None = None,
    iterations_per_epoch: int | None = None,
    document: str | None = None,
    declaration: str = DECLARATION,
    **folders: str,
) -> None:
    """Runs the comparison.

    Args:
        output: folder of cells and figures; may be that of benchmark.py.
        seeds: seeds of the trainings and of generated anatomies, such as 0,1,2.
        dataset: name of the data set in benchmark.yaml.
        jobs: number of trainings that run at the same time, each with one thread.
        epochs: epochs of every training; as in the configs by default.
        iterations_per_epoch: iterations of every epoch; as in the configs by default.
        document: Markdown file whose table is replaced.
        declaration: the YAML file with the data sets and the recommended method.
        **folders: folder of a data set that is not generated, such as --abdomen DIR.

    Raises:
        InputError: when an option cannot be used; raised before any long work.
    """
    declared = read_declaration(declaration, folders, jobs, epochs, iterations_per_epoch)
    (name,) = choose("dataset", [dataset], declared["datasets"])
    if document:
        require_table(Path(document), f"{name} selection")
    folder = Path(str(output)).absolute()
    cells = plan_cells(declared, [METHOD], plan_data(declared, [name], check_seeds(seeds), folders, folder), folder)
    processes = Processes()
    try:
        failed = run_cells(cells, jobs, processes)
        results = [compare(cell, processes) for cell in cells if cell.name not in failed]
    except CommandError as error:
        sys.exit(f"error: {error}")
    finally:
        processes.stop()
    lines = table(results)
    write_json(folder / "selection.json", {"dataset": name, "seeds": results})
    show(f"{declared['datasets'][name]['label']}: which network to keep", lines, console)
    if document:
        replace_table(Path(document), f"{name} selection", lines)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run_resumable(main)
