"""Lets a training go on from the state that an earlier session wrote."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Engine, Events

from sifa.distributed import is_main_process
from sifa.training_state import NAME, TrainingState, restore_random_numbers

logger = logging.getLogger(__name__)


class StateLoader:
    """Puts the trainer where the state says, when it starts. It comes first among the handlers, so that all see that.

    A new run in the folder of an earlier one keeps that one's last state, under another name.

    Args:
        state: of this run.
        path: the file to go on from; None: a new run.
        output_dir: the run's folder.
    """

    def __init__(self, state: TrainingState, path: Path | None, output_dir: str | Path) -> None:
        self.state = state
        self.path = path
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        """Restores once, when `engine` starts."""
        engine.add_event_handler(Events.STARTED, self.begin if self.path is None else self.restore)

    def begin(self, engine: Engine) -> None:
        """Sets an earlier run's last state aside."""
        last = self.output_dir / NAME
        if is_main_process() and last.is_file():
            aside = last.with_name(f"{last.stem}_earlier{last.suffix}")
            last.replace(aside)
            logger.warning("a new run; the state of an earlier one in this folder is now %s", aside)

    def restore(self, engine: Engine) -> None:
        """Restores all but the random numbers, which come back when nothing draws any more before the next batch."""
        assert self.path is not None
        length = engine.state.epoch_length
        assert length is not None
        saved = self.state.read(self.path)
        self.state.restore(saved, length)
        engine.state.iteration = saved["iteration"]
        engine.state.epoch = saved["iteration"] // length
        in_an_epoch = saved["iteration"] % length > 0  # then the loader, which draws a seed, had been started before
        moment = Events.GET_BATCH_STARTED if in_an_epoch else Events.EPOCH_STARTED

        def put_back() -> None:
            restore_random_numbers(saved)
            handle.remove()

        handle = engine.add_event_handler(moment, put_back)
        logger.info("going on from %s, after iteration %d", self.path, saved["iteration"])
