"""`run.json` and `config.yaml`: settings, environment and duration of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

from sifa.reports.run_environment import describe_environment
from sifa.utils.distributed import is_main_process
from sifa.utils.files import temporary_beside, write_json, writing

PLAIN = (type(None), bool, int, float, str)  # what YAML has beside lists and mappings


class RunRecord:
    """Writes `<output_dir>/run.json` at the start and at the end, and `<output_dir>/config.yaml` at the start.

    `run.json` holds the seed, a summary of the data, and `sessions`: an entry for each start of this training, where
    all but the first resumed it. An entry has the time, command, versions, code and devices of the start and, once the
    session has completed, the time of its end and its duration in seconds.

    Args:
        output_dir: folder of both files.
        seed: the run's seed.
        data: a plain description of the training data, such as `Fingerprint.summary()`; None: there is none.
        config: the merged config of the run, which `config_of_command` returns; None: no `config.yaml`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        seed: int,
        data: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.path = self.output_dir / "run.json"
        self.content: dict[str, Any] = {"seed": seed, "data": data}
        self.config = config
        self.started = 0.0

    def attach(self, engine: Engine) -> None:
        """Writes when `engine` starts and when it completes, on the main process."""
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
            if self.config is not None:
                write_config(self.config, self.output_dir / "config.yaml")

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


def write_config(config: Mapping[str, Any], path: Path) -> None:
    """Writes a config as YAML, whole or not at all; objects that a Python caller put into it are written as text."""
    with temporary_beside(path) as temporary:
        ConfigParser.export_config_file(_plain(config), temporary, fmt="yaml", sort_keys=False, width=120)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if type(value) in PLAIN else str(value)


def _read_sessions(path: Path) -> list[dict[str, Any]]:
    """Returns the earlier sessions; an empty list when the file is missing or is not a record."""
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["sessions"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
