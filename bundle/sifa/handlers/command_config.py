"""The merged config of a run, as `python -m monai.bundle run` builds it from its command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
import monai.bundle
from monai.bundle import ConfigParser, update_kwargs
from monai.utils import ensure_tuple

COMMAND = str(Path(monai.bundle.__file__).with_name("__main__.py"))


def config_of_command(arguments: Sequence[str]) -> dict[str, Any] | None:
    """Returns the config that a command runs: its config files merged, with the settings of the command line.

    A MONAI config has no access to its own content, so it is read again. What `--tracking` adds is left out.

    Args:
        arguments: `sys.argv`.

    Returns:
        The config, not evaluated, or None when the command is not `python -m monai.bundle run`.
    """
    program, *rest = arguments
    if program != COMMAND or rest[:1] != ["run"]:
        return None
    settings: dict[str, Any] = {}

    def collect(  # the parameters of `monai.bundle.run`; all other options are settings of the config
        run_id: Any = None, init_id: Any = None, final_id: Any = None, meta_file: Any = None, config_file: Any = None,
        logging_file: Any = None, tracking: Any = None, args_file: Any = None, **override: Any,
    ) -> None:  # fmt: skip
        settings.update(update_kwargs(args_file, meta_file=meta_file, config_file=config_file, **override))

    fire.Fire(collect, command=rest[1:])
    for name in ("run_id", "init_id", "final_id", "logging_file", "tracking"):  # of `args_file`
        settings.pop(name, None)
    files = ensure_tuple(settings.pop("config_file"))
    default = Path(files[0]).with_name("metadata.json")
    metadata = settings.pop("meta_file", str(default) if default.is_file() else None)
    parser = ConfigParser()
    parser.read_config(files)
    if metadata is not None:
        parser.read_meta(metadata)
    parser.update(settings)
    parser.resolve_macro_and_relative_ids()
    return dict(parser.get())
