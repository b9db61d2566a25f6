"""Resumes a training from a saved state."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from sifa.training.checkpoint import NAME, TrainingState, restore_random_numbers
from sifa.utils.distributed import all_reduce_max, is_main_process
from sifa.utils.errors import InputError

logger = logging.getLogger(__name__)


class StateLoader:
    """Restores the trainer's state when it starts. Attach it first, so that all other handlers see the restored state.

    A new run in the folder of an earlier run renames the last checkpoint of the earlier run.

    Args:
        state: the state of this run.
        path: the checkpoint to resume from; None: a new run.
        output_dir: the run's folder.
    """

    def __init__(self, state: TrainingState, path: Path | None, output_dir: str | Path) -> None:
        self.state = state
        self.path = path
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        """Restores the state when `engine` starts."""
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Engine) -> None:
        """Restores the state, or renames that of an earlier run.

        Raises:
            InputError: when the checkpoint belongs to another run, or the processes found different ones.
        """
        state: Any = engine.state
        saved = None if self.path is None else self.state.read(self.path)
        iteration = 0 if saved is None else saved["iteration"]
        latest, earliest = all_reduce_max(iteration, state.device), -all_reduce_max(-iteration, state.device)
        if latest != earliest:
            raise InputError(
                f"--resume: one process found a checkpoint of iteration {earliest}, another of {latest}: put "
                f"{self.output_dir} on a file system that all of them share."
            )
        last = self.output_dir / NAME
        if is_main_process() and last.is_file() and (self.path is None or self.path.resolve() != last.resolve()):
            aside = last.with_name(f"{last.stem}_earlier{last.suffix}")
            last.replace(aside)
            logger.warning("the checkpoint of an earlier run in this folder is now %s", aside)
        if saved is not None:
            self._restore(engine, saved)

    def _restore(self, engine: Engine, saved: Mapping[str, Any]) -> None:
        """Restores all but the random number generators, which are restored right before the next batch is drawn."""
        length = engine.state.epoch_length
        assert length is not None
        self.state.restore(saved, length)
        engine.state.iteration = saved["iteration"]
        engine.state.epoch = saved["iteration"] // length
        # A data loader draws a seed at the start of each epoch, or only once if its workers persist. If it did so
        # before the state was saved, it draws again now, and the generators are restored after that.
        in_an_epoch = saved["iteration"] % length > 0
        had_drawn = in_an_epoch or getattr(engine.state.dataloader, "persistent_workers", False)
        moment = Events.GET_BATCH_STARTED if had_drawn else Events.EPOCH_STARTED

        def put_back() -> None:
            restore_random_numbers(saved)
            handle.remove()

        handle = engine.add_event_handler(moment, put_back)
        logger.info("resuming from %s, after iteration %d", self.path, saved["iteration"])
