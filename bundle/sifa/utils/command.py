"""The command line `python -m monai.bundle run`: its parts, and the config that it runs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fire
import monai.bundle
from fire.core import FireExit
from monai.bundle import ConfigParser, update_kwargs
from monai.utils import ensure_tuple

from sifa.utils.errors import UsageError

COMMAND = str(Path(monai.bundle.__file__).with_name("__main__.py"))


@dataclass(frozen=True)
class Command:
    """The parts of a command, as MONAI reads them.

    Args:
        config_files: the config files, in order.
        settings: the options that are settings of the config, by id, such as `epochs` or `inferer#overlap`.
        run_id: what runs.
        init_id: what runs before it.
        final_id: what runs after it.
        meta_file: metadata file; None: `metadata.json` beside the first config.
        tracking: what `--tracking` gives.
    """

    config_files: tuple[str, ...]
    settings: dict[str, Any]
    run_id: Any = "run"
    init_id: Any = "initialize"
    final_id: Any = "finalize"
    meta_file: Any = None
    tracking: Any = None


def read_command(arguments: Sequence[str]) -> Command | None:
    """Returns the parts of a command, or None when it is not `python -m monai.bundle run`.

    Args:
        arguments: `sys.argv`.

    Raises:
        UsageError: when python-fire cannot read it, for example because of too many positional arguments.
    """
    program, *rest = arguments
    if program != COMMAND or rest[:1] != ["run"]:
        return None
    given: dict[str, Any] = {}

    def collect(  # the parameters of `monai.bundle.run`; all other options are settings of the config
        run_id: Any = None, init_id: Any = None, final_id: Any = None, meta_file: Any = None, config_file: Any = None,
        logging_file: Any = None, tracking: Any = None, args_file: Any = None, **override: Any,
    ) -> None:  # fmt: skip
        ids = {"run_id": run_id, "init_id": init_id, "final_id": final_id}
        files = {"meta_file": meta_file, "config_file": config_file, "logging_file": logging_file}
        given.update(update_kwargs(args_file, **ids, **files, tracking=tracking, **override))

    try:
        with redirect_stderr(io.StringIO()):  # several lines of usage
            fire.Fire(collect, command=rest[1:])
    except FireExit as end:
        raise UsageError(f"{end.trace.elements[-1].ErrorAsStr()}: every option is --NAME VALUE.") from end
    given.pop("logging_file", None)
    parts = {
        name: given.pop(name) for name in ("run_id", "init_id", "final_id", "meta_file", "tracking") if name in given
    }
    return Command(ensure_tuple(given.pop("config_file", ())), given, **parts)


def read_configs(command: Command) -> dict[str, Any]:
    """Returns the config files of a command merged, without its settings, not evaluated."""
    parser = ConfigParser()
    parser.read_config(command.config_files)
    return dict(parser.get())


def config_of_command(arguments: Sequence[str]) -> dict[str, Any] | None:
    """Returns the config that a command runs: its config files merged, with the settings of the command line.

    A MONAI config has no access to its own content, so it is read again. What `--tracking` adds is left out.

    Args:
        arguments: `sys.argv`.

    Returns:
        The config, not evaluated, or None when the command is not `python -m monai.bundle run`.
    """
    command = read_command(arguments)
    if command is None:
        return None
    default = Path(command.config_files[0]).with_name("metadata.json")
    parser = ConfigParser(read_configs(command))
    if command.meta_file is not None or default.is_file():
        parser.read_meta(command.meta_file or str(default))
    parser.update(command.settings)
    parser.resolve_macro_and_relative_ids()
    return dict(parser.get())
