"""Compares methods over data sets and seeds: trains, measures, writes tables and pictures.

    python scripts/benchmark.py OUTPUT --seeds 0,1,2 [--abdomen DIR] [--datasets phantom] [--groups methods]
        [--methods source_only,recommended] [--jobs 2] [--document FILE]

The choices are listed in benchmark.yaml. A cell is one method on one data set with one seed: a training and its
`evaluating`, in OUTPUT/cells/<data set>-<method>-<seed>-<hash of all that the result depends on>. A complete cell is
not run again and an interrupted one is resumed, so the same command can be repeated. Writes

    OUTPUT/results.json, results.csv   per method: Dice, surface distance, share of the gap recovered, minutes
    OUTPUT/figures/                    the paper's Figures 3, 4 and 5: <data set>_translation.png, _methods.png, ...

The share of the gap is (method - source-only) / (supervised - source-only) of mean Dice. Minutes are the time of the
training, summed over interruptions, plus that of the model that it starts from. `--document` replaces the tables
between `<!-- benchmark <data set> <group> -->` and `<!-- end -->` in a Markdown file; a group that benchmark.yaml calls
joined has one table for all data sets, at `<!-- benchmark <group> -->`. The exit status is 1 when a cell failed (the
others still run), and 2 when an option is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from benchmark_cells import Cell, CommandError, Processes, read_json, run_cell
from benchmark_options import DECLARATION, check_seeds, choose, read_declaration, run_resumable
from benchmark_plan import plan_cells, plan_data
from benchmark_report import as_csv, as_text, replace_table, require_table, show, summarize, table
from rich.console import Console
from sifa.utils.files import write_json, write_text

SCRIPTS = Path(__file__).resolve().parent

console = Console(width=max(Console().width, 160), soft_wrap=True)  # the width of the tables


def run_cells(cells: Sequence[Cell], jobs: int, processes: Processes) -> dict[str, str]:
    """Runs the cells that are not complete, prints a line for each, and returns the failed ones with the reason."""
    failed = generate(cells, processes)
    futures: dict[Path, Future[dict[str, Any]]] = {}

    def finish(cell: Cell) -> dict[str, Any]:
        if cell.after and cell.after.folder in futures:  # submitted before this one
            futures[cell.after.folder].result()
        return run_cell(cell, processes)

    waiting = [cell for cell in cells if not cell.result.is_file() and cell.name not in failed]
    done = len(cells) - len(waiting) - len(failed)
    console.print(f"{len(cells)} cells: {done} complete, {len(waiting)} to run, {jobs} at a time.")
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for cell in waiting:
                futures[cell.folder] = pool.submit(finish, cell)
            names = {future: cell.name for cell in waiting for future in [futures[cell.folder]]}
            for count, future in enumerate(as_completed(names), done + 1):
                line = f"[{count}/{len(cells)}] {names[future]}: "
                try:
                    result = future.result()
                except Exception as error:  # of any kind: the other cells still run
                    failed[names[future]] = str(error)
                    console.print(f"{line}failed, {error}", markup=False)
                else:
                    dice, minutes = as_text(result["metrics"]["mean_dice"]), result["training_seconds"] / 60
                    console.print(f"{line}mean Dice {dice} %, {minutes:.1f} min", markup=False)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()  # otherwise the pool would wait for them
            raise
    return failed


def generate(cells: Sequence[Cell], processes: Processes) -> dict[str, str]:
    """Generates missing data sets, and returns the cells for which that failed with the reason."""
    failed = {}
    missing = {cell.data.folder: cell.data for cell in cells if not cell.data.is_there}
    for folder, data in missing.items():
        console.print(f"generating {data.name}, seed {data.seed}")
        try:
            processes.run(data.generate, folder.with_suffix(".log"))
        except CommandError as error:
            failed.update({cell.name: f"no data, {error}" for cell in cells if cell.data.folder == folder})
    return failed


def collect(declaration: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
    """Returns the content of results.json, from the complete cells."""
    content: dict[str, Any] = {"datasets": {}, "figures": declaration["figures"]}
    for dataset in dict.fromkeys(cell.data.name for cell in cells):
        own = [cell for cell in cells if cell.data.name == dataset]
        complete: dict[str, dict[int, Cell]] = {}
        for cell in own:
            if cell.result.is_file():
                complete.setdefault(cell.method, {})[cell.data.seed] = cell
        results = {
            name: {seed: read_json(cell.result) for seed, cell in ones.items()} for name, ones in complete.items()
        }
        content["datasets"][dataset] = {
            "label": declaration["datasets"][dataset]["label"],
            "split": own[0].data.split,
            "methods": {
                method: {
                    "label": declaration["methods"][method]["label"],
                    "paper": declaration["methods"][method].get("paper"),
                    **summarize(results[method], *(results.get(bound, {}) for bound in bounds(declaration, method))),
                    "cells": {
                        seed: {"model_dir": str(cell.model), "dataset_dir": str(cell.data.folder)}
                        for seed, cell in ones.items()
                    },
                }
                for method, ones in complete.items()
                if ones
            },
        }
    return content


def bounds(declaration: Mapping[str, Any], method: str) -> tuple[str, str]:
    """Returns the methods between which the share of the gap is 0 and 1, for one method."""
    entry = declaration["methods"][method]
    return entry.get("lower", declaration["lower"]), entry.get("upper", declaration["upper"])


class Place(NamedTuple):
    """A table in a document, by the data sets and the group of methods that it shows."""

    name: str  # in the comment above it
    datasets: Sequence[str]
    group: str


def places(datasets: Sequence[str], groups: Iterable[str], joined: Sequence[str]) -> list[Place]:
    """Returns a place for each group of methods on each data set; a joined group has one for all data sets."""
    found = [Place(f"{dataset} {group}", [dataset], group) for dataset in datasets for group in groups]
    return [place for place in found if place.group not in joined] + [
        Place(group, datasets, group) for group in groups if group in joined
    ]


def write_tables(
    content: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    joined: Sequence[str],
    output: Path,
    document: Path | None,
) -> None:
    """Prints the tables and writes them as JSON, as CSV and into the document, if there is one."""
    datasets = content["datasets"]
    write_json(output / "results.json", content)
    write_text(output / "results.csv", as_csv({name: entry["methods"] for name, entry in datasets.items()}))
    for place in places(list(datasets), groups, joined):
        chosen = {
            (dataset, method): datasets[dataset]["methods"][method]
            for dataset in place.datasets
            for method in groups[place.group]
            if method in datasets[dataset]["methods"]
        }
        several = len(place.datasets) > 1
        rows = {" ".join(key): row for key, row in chosen.items()}
        labels = {
            " ".join(key): f"{datasets[key[0]]['label']}: {row['label']}" if several else row["label"]
            for key, row in chosen.items()
        }
        lines = table(rows, labels)
        titles = [f"{datasets[dataset]['label']} ({datasets[dataset]['split']} scans)" for dataset in place.datasets]
        show(f"{'; '.join(titles)}: {place.group}", lines, console)
        if document:
            replace_table(document, place.name, lines)


def main(
    output: str,
    *,
    seeds: Any = 0,
    datasets: Any = None,
    groups: Any = None,
    methods: Any = None,
    jobs: int = 2,
    epochs: int | None = None,
    iterations_per_epoch: int | None = None,
    document: str | None = None,
    declaration: str = DECLARATION,
    **folders: str,
) -> None:
    """Runs the benchmark; the same command resumes an interrupted one.

    Args:
        output: folder of cells, tables and pictures.
        seeds: seeds of the trainings and of generated anatomies, such as 0,1,2.
        datasets: names of data sets; all by default.
        groups: names of groups of methods, with a table for each; all by default.
        methods: names of methods of these groups; all by default.
        jobs: number of cells that run at the same time, each with one thread.
        epochs: epochs of every training; as in the configs by default.
        iterations_per_epoch: iterations of every epoch; as in the configs by default.
        document: Markdown file whose tables are replaced.
        declaration: the YAML file with data sets, methods, groups and figures.
        **folders: folders of data sets that are not generated, such as --abdomen DIR.

    Raises:
        InputError: when an option cannot be used; raised before any long work.
    """
    declared = read_declaration(declaration, folders, jobs, epochs, iterations_per_epoch)
    chosen_seeds = check_seeds(seeds)
    chosen_groups = {name: declared["groups"][name] for name in choose("groups", groups, declared["groups"])}
    choices = list(dict.fromkeys(name for names in chosen_groups.values() for name in names))
    chosen_methods = choose("methods", methods, choices)
    tables = {group: [name for name in names if name in chosen_methods] for group, names in chosen_groups.items()}
    tables = {group: names for group, names in tables.items() if names}
    chosen_datasets = choose("datasets", datasets, declared["datasets"])
    joined = declared.get("joined", [])
    for place in places(chosen_datasets, tables, joined) if document else ():
        require_table(Path(str(document)), place.name)
    folder = Path(str(output)).absolute()
    data = plan_data(declared, chosen_datasets, chosen_seeds, folders, folder)
    cells = plan_cells(declared, chosen_methods, data, folder)
    processes = Processes()
    try:
        failed = run_cells(cells, jobs, processes)
        content = {**collect(declared, cells), "failed": failed}
        write_tables(content, tables, joined, folder, Path(document) if document else None)
        processes.run([sys.executable, str(SCRIPTS / "benchmark_figures.py"), str(folder)], folder / "figures.log")
    except CommandError as error:
        failed["the pictures"] = str(error)
    finally:
        processes.stop()
    for name, reason in failed.items():
        console.print(f"failed: {name}: {reason}", markup=False)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run_resumable(main)
