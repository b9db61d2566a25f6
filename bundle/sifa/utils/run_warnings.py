"""`warnings.txt`: the warnings of a run, from its first step on."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from sifa.utils.distributed import is_main_process
from sifa.utils.files import writing

NAME = "warnings.txt"
OWN = "sifa.handlers.training_watch"  # writes its findings itself, those that stop a training included


class _WarningsFile(logging.Handler):
    """Appends each warning to a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != OWN:
            with suppress(OSError), open(self.path, "a", encoding="utf-8") as stream:  # the log has it as well
                stream.write(f"{' '.join(record.getMessage().split())}\n")


def collect_warnings(folder: str | Path, resumed: bool = False, name: str = NAME) -> None:
    """Writes the warnings that this package logs from now on to a file as well, on the main process.

    Args:
        folder: the run's folder.
        resumed: whether the run continues an earlier one, whose warnings are then kept.
        name: of the file in the folder.

    Raises:
        InputError: when the file cannot be written.
    """
    package = logging.getLogger("sifa")
    for handler in [handler for handler in package.handlers if isinstance(handler, _WarningsFile)]:
        package.removeHandler(handler)
    if not is_main_process():
        return
    path = Path(folder) / name
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not resumed:
            path.unlink(missing_ok=True)
    package.addHandler(_WarningsFile(path))
