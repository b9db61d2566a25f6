"""Checks of a whole command line before any work, and the report of whatever ends it."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigParser

from sifa.utils.command import Command, read_command, read_configs
from sifa.utils.command_errors import blame_option
from sifa.utils.command_help import describe_options
from sifa.utils.command_options import check_options, of_tracking
from sifa.utils.command_reach import is_used, used_entries
from sifa.utils.errors import (
    InputError,
    UsageError,
    find_input_error,
    report_input_errors_plainly,
    write_plainly,
)
from sifa.utils.overlays import COMPLETE, FOLLOWS, WRITTEN, check_order, config_file
from sifa.utils.paths import bundle_root

NOT_RUNS = ("imports", "initialize", "finalize")
FIRST = {"_target_": "sifa.utils.report_input_errors_plainly"}
OTHER_IDS = {  # of what runs, by other names
    "train": "training", "fit": "training", "infer": "inference", "predict": "inference", "segment": "inference",
    "plan": "planning", "test": "evaluating", "validate": "evaluating", "eval": "evaluating", "adapt": "adapting",
}  # fmt: skip
CONFIG_OF = {  # the configs that a run is in
    "training": "train.yaml",
    "evaluating": "train.yaml and evaluate.yaml",
    "adapting": "train.yaml and adapt_batch_norm.yaml",
    "planning": "train.yaml",
    "calibrating": "train.yaml and calibrate.yaml",
    "inference": "inference.yaml",
    "merge": "inference.yaml",
}

_passed: list[str] = []  # the command line that `check_command` has accepted in this process


def check_command() -> None:
    """Refuses an invalid command line; the configs call it before any work.

    It does nothing in a process that `python -m monai.bundle run` did not start, such as a server. With `--help` among
    the options of a command it prints what the configs offer and ends the process.

    Raises:
        UsageError: in one sentence, with what is probably meant and what there is.
        SystemExit: with status 0, after `--help`.
    """
    command = read_command(sys.argv)
    if command is None or _passed == sys.argv:
        return
    if sys.excepthook is sys.__excepthook__:  # where another id took the place of `initialize`
        report_input_errors_plainly()
    _check_package(command.config_files)
    check_order(command.config_files)
    config = read_configs(command)
    runs = runs_of(config)
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")  # for GPUs only, and nothing to act on
    if "help" in command.settings or "h" in command.settings:
        sys.stdout.write(describe_options(command.config_files, config, runs))
        raise SystemExit(0)
    only = _only_run(command.config_files)
    runs = [name for name in runs if only is None or name in ("run", only)]
    _check_ids(command, config, runs)
    check_options(command, config)
    _check_effect(command, config, runs)
    if command.tracking == "mlflow" and find_spec("mlflow") is None:
        raise UsageError("--tracking mlflow: mlflow is not installed: pip install mlflow, or leave out --tracking.")
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1" and not {"process_timeout", "num_shards"} & set(config):
        raise UsageError(
            f"{processes} processes would each run all of {command.run_id}: add multi_gpu_train.yaml as the last "
            "config for training, or start one process without torchrun."
        )
    _passed[:] = sys.argv  # the configs may change while the command runs


def _check_package(files: Sequence[str]) -> None:
    """Refuses the configs of one bundle with the package, and so the weights, of another one.

    Python prefers the package in the folder that a command is started in to that beside the configs.
    """
    if not files:
        return
    folder = Path(files[0]).resolve().parents[1]
    if folder != Path(bundle_root()) and (folder / "sifa" / "__init__.py").is_file():
        raise UsageError(
            f"{files[0]}: it belongs to the bundle in {folder}, but the package in {bundle_root()} is used, with the "
            f"weights there: start the command in another folder, for example in {folder}."
        )


def report_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Writes one sentence about whatever ends a command, or a traceback if that is a fault of the bundle.

    The configs install it as the exception hook of a command. An error that MONAI raises because of an invalid command
    line, such as an unknown run id, is reported with the message of `check_command`.
    """
    if isinstance(error, Exception):
        error = _explained(error)
    if not write_plainly(error):
        sys.__excepthook__(kind, error, traceback)


def _explained(error: Exception) -> Exception:
    """Returns the most informative error for the user."""
    try:
        check_command()
        command = read_command(sys.argv)
        if command is None or find_input_error(error) is not None:
            return error
        return blame_option(error, command.settings, read_configs(command)) or error
    except InputError as found:
        return found
    except Exception:  # the configs have changed or are gone; the error itself tells more
        return error


def runs_of(config: Mapping[str, Any]) -> list[str]:
    """Returns the ids of a merged config that run something: lists of what is done, and names for them."""
    lists = [name for name, value in config.items() if name not in NOT_RUNS and _does_something(value)]
    return [name for name, value in config.items() if name in lists or value in [f"@{one}" for one in lists]]


def _does_something(value: Any) -> bool:
    """Returns whether an entry of a config is a list that begins as a run of the bundle, or has an expression."""
    if not isinstance(value, list):
        return False
    return FIRST in value or any(isinstance(item, str) and item[:1] == "$" for item in value)


def _only_run(files: Sequence[str]) -> str | None:
    """Returns what the last config makes of a training, where it replaces what `run` does."""
    replacing = {
        "evaluate": "evaluating",
        "adapt_batch_norm": "adapting",
        "calibrate": "calibrating",
        "multi_gpu_train": "training",
    }
    return replacing.get(Path(files[-1]).stem) if files else None


def _check_ids(command: Command, config: Mapping[str, Any], runs: Sequence[str]) -> None:
    """Refuses a run id that runs nothing, and positional arguments that MONAI takes for other ids."""
    for name, value, default in (
        ("init_id", command.init_id, "initialize"),
        ("final_id", command.final_id, "finalize"),
    ):
        if value not in (default, "") and not isinstance(config.get(str(value)), list):
            meant = _as_list(command, value) or "every option is --NAME VALUE"
            raise UsageError(f"{value}: MONAI reads it as --{name}, but the config has no such list: {meant}.")
    if command.run_id in runs or "#" in str(command.run_id) or "::" in str(command.run_id):
        return
    run_id = str(command.run_id)
    several = _as_list(command, run_id)
    if several is not None:
        raise UsageError(f"{run_id}: MONAI reads it as the run id: {several}.")
    there = [name for name in runs if name != "run"]
    near = [OTHER_IDS[run_id]] if run_id in OTHER_IDS else get_close_matches(run_id, CONFIG_OF, n=1)
    likely = [name for name in [*near, run_id] if name in CONFIG_OF]
    choices = f"these configs have {' and '.join(there)}" if there else "these configs have nothing to run"
    if not likely:
        raise UsageError(f"run {run_id}: there is no such run: {choices}.")
    if likely[0] in there:
        raise UsageError(f"run {run_id}: did you mean {likely[0]}? What runs: {choices}.")
    raise UsageError(f"run {run_id}: {likely[0]} needs {CONFIG_OF[likely[0]]}: {choices}.")


def _check_effect(command: Command, config: Mapping[str, Any], runs: Sequence[str]) -> None:
    """Refuses options that a run does not use, and entries of other people's overlays that nothing uses."""
    merged = ConfigParser(dict(config))
    merged.update(command.settings)
    content = dict(merged.get())
    planned = ["training"] if command.run_id == "planning" else []  # a plan depends on all that the training has
    used = used_entries(content, str(command.run_id), "initialize", "finalize", *planned)
    tracked = of_tracking(command.tracking)
    for name in command.settings:
        if name not in tracked and not is_used(name, used):
            raise UsageError(
                f"--{name}: it has no effect on {command.run_id}, for example because the model's fingerprint decides "
                "it: leave it out."
            )
    everything = used_entries(content, *runs, "initialize", "finalize", "imports")
    own = [stem for stem in (*COMPLETE, *FOLLOWS) if stem not in WRITTEN]
    others = [file for file in command.config_files if Path(file).stem not in own]
    known = {key for stem in own if others for key in ConfigParser.load_config_file(config_file(stem))}
    for file in others:
        for name in ConfigParser.load_config_file(file):
            key = name.removeprefix("+")
            if key not in known and not is_used(key, everything):
                near = get_close_matches(key, known, n=1)
                meant = f"did you mean {near[0]}?" if near else "remove it."
                raise UsageError(f"{file}: nothing uses its entry {key}: {meant}")


def _as_list(command: Command, value: Any) -> str | None:
    """Returns how to write several configs, if `value` is a positional argument that is one more config."""
    if not str(value).endswith((".yaml", ".yml", ".json")):
        return None
    files = ",".join(f"'{file}'" for file in (*command.config_files, str(value)))
    return f'several configs are one list: --config_file "[{files}]"'
