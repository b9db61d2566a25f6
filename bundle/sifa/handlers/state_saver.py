"""Writes the state of a training now and then, and when it is told to stop."""

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
    """Writes `<output_dir>/checkpoints/last.pt` every so many iterations, after each epoch, and when a signal comes.

    It comes last among the handlers: what the others do at the end of an epoch (learning rate, validation) is in the
    state. On SIGTERM and SIGINT (Ctrl-C) the iteration that runs is completed first; a second signal ends at once.

    Args:
        state: of this run.
        output_dir: the run's folder.
        interval: iterations between two states.

    Raises:
        InputError: when the interval is less than 1.
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
        """Takes the signals over; a thread that is not the main one cannot."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def stop_listening(self) -> None:
        """Gives the signals back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def fail(self, engine: Engine, error: BaseException) -> None:
        """Gives the signals back when something else ends the training, and lets it."""
        self.stop_listening()
        raise error

    def within_epoch(self, engine: Engine) -> None:
        """Writes when it is time or a signal has come; an epoch's last iteration waits for the end of the epoch."""
        assert engine.state.epoch_length is not None
        if engine.state.iteration % engine.state.epoch_length == 0:
            return
        stop = self._is_told_to_stop(engine)
        if stop or engine.state.iteration % self.interval == 0:
            self.save(engine)
        if stop:
            self._end(engine)

    def after_epoch(self, engine: Engine) -> None:
        """Writes, and obeys a signal that has come."""
        self.save(engine)
        if self._is_told_to_stop(engine):
            self._end(engine)

    def save(self, engine: Engine) -> None:
        """Writes the state; every process has a part in it, and the main one writes."""
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
        wait_for_all()  # whoever ends first makes torchrun end the others, which may be writing
        number = self.received or signal.SIGTERM  # another process was told
        raise Interrupted(
            f"{signal.Signals(number).name} after iteration {engine.state.iteration}; the state is in {self.path}: "
            "go on with --resume auto.",
            status=128 + number,
        )
