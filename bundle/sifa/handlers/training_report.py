"""`report.html` at the end of a training."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Engine, Events

from sifa.reports.training_report import write_report
from sifa.utils.distributed import is_main_process
from sifa.utils.files import writing

logger = logging.getLogger(__name__)


class TrainingReport:
    """Writes `<output_dir>/report.html` from the files of the other handlers; attach it after them.

    Args:
        output_dir: folder of the run.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        """Writes when `engine` completes, on the main process."""
        if is_main_process():
            engine.add_event_handler(Events.COMPLETED, self.write)

    def write(self, engine: Engine) -> None:
        """Writes the page.

        Raises:
            InputError: when it cannot be written.
        """
        with writing(self.output_dir):
            path = write_report(self.output_dir)
        logger.info("report: %s", path)
