"""Plans a benchmark: the data sets of each seed, and the cells of the chosen methods."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_cells import CONFIGS, Cell, Data, hash_file, hash_folder, hash_text, read_json
from bundle_command import as_flags
from sifa.utils.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def plan_data(
    declaration: Mapping[str, Any], names: Sequence[str], seeds: Sequence[int], folders: Mapping[str, str], output: Path
) -> list[Data]:
    """Returns each data set for every seed.

    Args:
        declaration: the content of benchmark.yaml.
        names: names of the data sets.
        seeds: seeds of trainings, and of anatomies if a data set is generated.
        folders: folders of data sets that are not generated, by name.
        output: folder of the benchmark.

    Raises:
        InputError: when a folder is missing or holds no data set.
    """
    planned = []
    for name in names:
        entry = declaration["datasets"][name]
        configs = tuple(entry.get("configs", ()))
        if "generate" in entry:
            script, options = ROOT / "scripts" / entry["generate"]["script"], entry["generate"].get("options", {})
            for seed in seeds:
                chosen = {"seed": seed, **options}
                content = hash_text(json.dumps([hash_file(script), chosen], sort_keys=True))
                folder = output / "data" / f"{name}-{seed}-{content[:12]}"
                command = (sys.executable, str(script), str(folder), *as_flags(chosen), "--overwrite")
                planned.append(Data(name, seed, folder, content, configs, entry["split"], command))
        else:
            folder = find_folder(name, folders)
            content = hash_folder(folder)
            split = find_split(folder)
            planned.extend(Data(name, seed, folder, content, configs, split) for seed in seeds)
    return planned


def find_folder(name: str, folders: Mapping[str, str]) -> Path:
    """Returns the folder of a data set that is not generated.

    Raises:
        InputError: when it is missing or holds no dataset.json.
    """
    if name not in folders:
        raise InputError(f"--{name} is missing: give the folder of that data set, or choose --datasets without it.")
    folder = Path(str(folders[name])).absolute()
    if not (folder / "dataset.json").is_file():
        raise InputError(f"--{name} is {folder}, which holds no dataset.json: give the folder of a data set.")
    return folder


def find_split(folder: Path) -> str:
    """Returns the split of labeled target scans that is measured: `test`, or `validation` if there are no test scans.

    Raises:
        InputError: when its dataset.json has no `target`.
    """
    path = folder / "dataset.json"
    try:
        return "test" if read_json(path)["target"].get("test") else "validation"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} describes no target images: bundle/docs/README.md says what it must hold.") from error


def plan_cells(
    declaration: Mapping[str, Any], methods: Iterable[str], data: Sequence[Data], output: Path
) -> list[Cell]:
    """Returns the cells of methods, each after the one that it starts from, which is added if it is not chosen.

    Raises:
        InputError: when a config file of a method is missing.
    """
    cells: dict[tuple[str, str, int], Cell] = {}

    def add(method: str, one: Data) -> Cell:
        place = (one.name, method, one.seed)
        if place not in cells:
            entry = declaration["methods"][method] or {}
            configs, base = tuple(entry.get("configs", ())), tuple(entry.get("base", ()))
            for file in (*base, *one.configs, *configs):
                if not (CONFIGS / file).is_file():
                    raise InputError(
                        f"{CONFIGS / file}: method {method} needs this config: write it or leave that out."
                    )
            after = add(entry["after"], one) if "after" in entry else None
            own = entry.get("dataset_options", {}).get(one.name, {})
            options = {**declaration.get("options", {}), **entry.get("options", {}), **own}
            run = entry.get("run", "training")
            cells[place] = Cell(one, method, output / "cells", configs, base, options, run, after)
        return cells[place]

    for method in methods:
        for one in data:
            if one.name in (declaration["methods"][method] or {}).get("datasets", [one.name]):
                add(method, one)
    return sorted(cells.values(), key=lambda cell: cell.after is not None)
