"""Reads and checks the options that the benchmark scripts share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from command_line import run_command_line
from sifa.utils.errors import INTERRUPTED, InputError

DECLARATION = str(Path(__file__).resolve().parent / "benchmark.yaml")


def read_declaration(
    path: str, folders: Mapping[str, str], jobs: int, epochs: int | None, iterations_per_epoch: int | None
) -> dict[str, Any]:
    """Returns the content of a declaration, with the length of trainings added to its `options`.

    Args:
        path: the YAML file.
        folders: folders of data sets, by name.
        jobs: number of cells that run at the same time.
        epochs: epochs of every training; None: as in the configs.
        iterations_per_epoch: iterations of every epoch; None: as in the configs.

    Raises:
        InputError: when a folder has the name of no data set, or a number is not an integer of at least 1.
    """
    declared: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if unknown := [name for name in folders if name not in declared["datasets"]]:
        names = ", ".join(f"--{name}" for name in unknown)
        raise InputError(f"there is no option {names}: check the spelling, or run with --help to see every option.")
    lengths = {"epochs": epochs, "iterations_per_epoch": iterations_per_epoch}
    for name, value in {"jobs": jobs, **lengths}.items():
        if value is not None and (type(value) is not int or value < 1):
            raise InputError(f"--{name} is {value!r}: give a whole number of at least 1.")
    declared["options"] = {name: value for name, value in lengths.items() if value}
    return declared


def choose(option: str, given: Any, choices: Iterable[str]) -> list[str]:
    """Returns the chosen names in the order of `choices`; all of them if none is given."""
    names = list(choices) if given is None else [str(name) for name in as_list(given)]
    unknown = [name for name in names if name not in choices]
    if unknown or not names:
        named = ", ".join(unknown) or "nothing"
        raise InputError(f"--{option} names {named}: choose of {', '.join(choices)}, with commas between them.")
    return [name for name in choices if name in names]


def check_seeds(given: Any) -> list[int]:
    """Returns the seeds without duplicates."""
    seeds = as_list(given)
    if not seeds or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise InputError(f"--seeds is {given!r}: give whole numbers of at least 0, such as 0,1,2.")
    return list(dict.fromkeys(seeds))


def as_list(given: Any) -> list[Any]:
    """Returns what python-fire parsed, one value or several, as a list."""
    return given.split(",") if isinstance(given, str) else list(given) if isinstance(given, list | tuple) else [given]


def run_resumable(main: Callable[..., None]) -> None:
    """Runs a script's `main` on the command line; SIGTERM stops it like Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run_command_line(main)
    except KeyboardInterrupt:
        print("error: interrupted: run the same command again to continue.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
