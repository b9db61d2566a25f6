"""Writes the state of a training at intervals and when a signal asks it to stop."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from ignite.engine import Engine, Events

from sifa.training.checkpoint import NAME, TrainingState, write_state
from sifa.utils.distributed import any_process, is_main_process, wait_for_all
from sifa.utils.errors import InputError, Interrupted

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StateSaver:
    """Writes `<output_dir>/checkpoints/last.pt` every `interval` iterations, after each epoch, and on a signal.

    Attach it last, so that the checkpoint includes what other handlers do at the end of an epoch (learning rate,
    validation). On SIGTERM and SIGINT (Ctrl-C) the current iteration is completed first; a second signal ends the
    process immediately.

    Args:
        state: the state of this run.
        output_dir: the run's folder.
        interval: number of iterations between two checkpoints.

    Raises:
        InputError: when `interval` is less than 1.
    """

    def __init__(self, state: TrainingState, output_dir: str | Path, interval: int) -> None:
        if interval < 1:
            raise InputError(f"checkpoint_interval is {interval}: give a number of iterations from 1.")
        self.state = state
        self.path = Path(output_dir) / NAME
        self.interval = interval
        self.received: int | None = None
        self.before: dict[int, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Follows `engine` from start to end."""
        engine.add_event_handler(Events.STARTED, self.listen)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.within_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.after_epoch)
        engine.add_event_handler(Events.COMPLETED, self.stop_listening)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.fail)

    def listen(self, engine: Engine) -> None:
        """Installs the signal handlers, which is only possible in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def stop_listening(self) -> None:
        """Restores the previous signal handlers."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def fail(self, engine: Engine, error: BaseException) -> None:
        """Restores the previous signal handlers and re-raises an error that ended the training."""
        self.stop_listening()
        raise error

    def within_epoch(self, engine: Engine) -> None:
        """Writes at the interval or after a signal, except in an epoch's last iteration, which `after_epoch` covers."""
        assert engine.state.epoch_length is not None
        if engine.state.iteration % engine.state.epoch_length == 0:
            return
        stop = self._is_told_to_stop(engine)
        if stop or engine.state.iteration % self.interval == 0:
            self.save(engine)
        if stop:
            self._end(engine)

    def after_epoch(self, engine: Engine) -> None:
        """Writes, then stops if a signal was received."""
        self.save(engine)
        if self._is_told_to_stop(engine):
            self._end(engine)

    def save(self, engine: Engine) -> None:
        """Collects the state from every process; the main process writes it."""
        collected = self.state.collect(engine.state.iteration)
        if is_main_process():
            write_state(collected, self.path)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.stop_listening()
        logger.warning("%s: stopping after this iteration", signal.Signals(number).name)

    def _is_told_to_stop(self, engine: Engine) -> bool:
        state: Any = engine.state
        return any_process(self.received is not None, state.device)

    def _end(self, engine: Engine) -> None:
        self.stop_listening()
        wait_for_all()  # torchrun ends the other processes, which may be writing, when the first one ends
        number = self.received or signal.SIGTERM  # another process received it
        raise Interrupted(
            f"{signal.Signals(number).name} after iteration {engine.state.iteration}; the checkpoint is {self.path}: "
            "resume with --resume auto.",
            status=128 + number,
        )
