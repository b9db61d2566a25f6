"""`run.json` and `config.yaml`: what a run was started with, on what, and how long it took."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ConfigWorkflow

from sifa.reports.run_environment import describe_environment
from sifa.utils.distributed import is_main_process
from sifa.utils.files import temporary_beside, write_json, writing

PLAIN = (type(None), bool, int, float, str)  # what YAML has beside lists and mappings


class RunRecord:
    """Writes `<output_dir>/run.json` at the start and at the end, and `<output_dir>/config.yaml` at the start.

    `run.json` holds the seed, what the data are, and `sessions`: an entry for each start of this training, of which all
    but the first went on from an iteration: when, with what command, versions, code and devices, and, where it came to
    its end, when and after how many seconds. `config.yaml` is the config with its overlays and the command line's
    settings merged; there is none where no `ConfigWorkflow` runs.

    Args:
        output_dir: folder of both files.
        seed: the run's seed.
        data: a plain description of the training data, such as `Fingerprint.summary()`; None: there is none.
    """

    def __init__(self, output_dir: str | Path, seed: int, data: Mapping[str, Any] | None = None) -> None:
        self.output_dir = Path(output_dir)
        self.path = self.output_dir / "run.json"
        self.content: dict[str, Any] = {"seed": seed, "data": data}
        self.started = 0.0

    def attach(self, engine: Engine) -> None:
        """Writes when `engine` starts and when it has come to its end, on the main process."""
        if not is_main_process():
            return
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Adds a session.

        Raises:
            InputError: when the folder cannot be written, as in `finish`.
        """
        self.started = time.monotonic()
        session = {
            "started": _now(),
            "first_iteration": engine.state.iteration + 1,
            "ended": None,
            "seconds": None,
            "last_iteration": None,
            **describe_environment(getattr(engine.state, "device", "cpu")),
        }
        earlier = _read_sessions(self.path) if engine.state.iteration > 0 else []
        self.content["sessions"] = [*earlier, session]
        with writing(self.output_dir):
            write_json(self.path, self.content)
            config = find_config()
            if config is not None:
                write_config(config, self.output_dir / "config.yaml")

    def finish(self, engine: Engine) -> None:
        """Completes the session."""
        ended = {
            "ended": _now(),
            "seconds": round(time.monotonic() - self.started, 1),
            "last_iteration": engine.state.iteration,
        }
        self.content["sessions"][-1].update(ended)
        with writing(self.path):
            write_json(self.path, self.content)


def find_config() -> Any:
    """Returns the config of the workflow that is running; None where none is."""
    # A config cannot name its own parser, and `sys.argv` is not the bundle's command line under MONAI Label, so the
    # workflow is looked for among those whose `run` has led here: the callers' `self`.
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigWorkflow):
            return caller.parser.config
    return None


def write_config(config: Mapping[str, Any], path: Path) -> None:
    """Writes a config as YAML, whole or not at all; of what a caller from Python handed in as an object, its text."""
    with temporary_beside(path) as temporary:
        ConfigParser.export_config_file(_plain(config), temporary, fmt="yaml", sort_keys=False, width=120)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if type(value) in PLAIN else str(value)


def _read_sessions(path: Path) -> list[dict[str, Any]]:
    """Returns the sessions before this one; none where the file is gone or is not a record."""
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["sessions"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
