"""Progress of training: a bar on a terminal, a line an epoch in the log."""

from __future__ import annotations

import logging
import time

from ignite.engine import Engine, Events
from tqdm import tqdm

from sifa.handlers.engine_output import scalars
from sifa.utils.distributed import is_main_process

logger = logging.getLogger(__name__)


class TrainingProgress:
    """Shows iterations, the losses of each update, the time left and how long training waited for its data."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.started = 0.0  # seconds, as are the next four
        self.epoch_started = 0.0
        self.asked = 0.0
        self.waited = 0.0
        self.advanced = 0.0
        self.first_iteration = 0

    def attach(self, engine: Engine) -> None:
        """Follows `engine` from start to end, on the main process."""
        if not is_main_process():
            return
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self.receive)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.log)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def start(self, engine: Engine) -> None:
        """Opens the bar; without a terminal there is none."""
        self.started, self.first_iteration = time.monotonic(), engine.state.iteration
        self.bar = tqdm(
            total=_iterations(engine), initial=self.first_iteration, desc="training", unit="it", disable=None
        )

    def start_epoch(self, engine: Engine) -> None:
        """Forgets the waits of the epoch before."""
        self.epoch_started, self.waited = time.monotonic(), 0.0

    def ask(self, engine: Engine) -> None:
        """Notes when a batch is asked for."""
        self.asked = time.monotonic()

    def receive(self, engine: Engine) -> None:
        """Adds up the time until it came."""
        self.waited += time.monotonic() - self.asked

    def advance(self, engine: Engine) -> None:
        """Moves the bar by one iteration."""
        self.advanced = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix(_losses(engine), refresh=False)
            self.bar.update()

    def log(self, engine: Engine) -> None:
        """Logs the last losses of the epoch, the time left, and the share of the iterations' time spent on waiting."""
        passed, done = time.monotonic() - self.started, engine.state.iteration
        left = passed / (done - self.first_iteration) * (_iterations(engine) - done)
        logger.info(
            "epoch %d of %d: %s; %.0f s passed, about %.0f s left, data wait %.1f %%",
            engine.state.epoch,
            engine.state.max_epochs or 1,
            ", ".join(f"{name} {value}" for name, value in _losses(engine).items()),
            passed,
            left,
            100 * self.waited / max(self.advanced - self.epoch_started, 1e-9),
        )

    def close(self, engine: Engine) -> None:
        """Closes the bar."""
        if self.bar is not None:
            self.bar.close()


def _iterations(engine: Engine) -> int:
    return (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)


def _losses(engine: Engine) -> dict[str, str]:
    return {
        name.removesuffix("_loss"): f"{value:.3f}" for name, value in scalars(engine).items() if name.endswith("_loss")
    }
