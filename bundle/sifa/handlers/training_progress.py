"""Progress of training: a bar on a terminal, a line an epoch in the log."""

from __future__ import annotations

import logging
import time

from ignite.engine import Engine, Events
from tqdm import tqdm

from sifa.handlers.engine_output import scalars

logger = logging.getLogger(__name__)


class TrainingProgress:
    """Shows iterations, the losses of each update and the time left."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.started = 0.0
        self.first_epoch = 0

    def attach(self, engine: Engine) -> None:
        """Follows `engine` from start to end."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.log)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def start(self, engine: Engine) -> None:
        """Opens the bar; without a terminal there is none."""
        self.started, self.first_epoch = time.monotonic(), engine.state.epoch
        total = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)
        self.bar = tqdm(total=total, initial=engine.state.iteration, desc="training", unit="it", disable=None)

    def advance(self, engine: Engine) -> None:
        """Moves the bar by one iteration."""
        if self.bar is not None:
            self.bar.set_postfix(_losses(engine), refresh=False)
            self.bar.update()

    def log(self, engine: Engine) -> None:
        """Logs the last losses of the epoch and the time left."""
        epoch, epochs = engine.state.epoch, engine.state.max_epochs or 1
        passed = time.monotonic() - self.started
        losses = ", ".join(f"{name} {value}" for name, value in _losses(engine).items())
        left = passed / (epoch - self.first_epoch) * (epochs - epoch)
        logger.info("epoch %d of %d: %s; %.0f s passed, about %.0f s left", epoch, epochs, losses, passed, left)

    def close(self, engine: Engine) -> None:
        """Closes the bar."""
        if self.bar is not None:
            self.bar.close()


def _losses(engine: Engine) -> dict[str, str]:
    return {
        name.removesuffix("_loss"): f"{value:.3f}" for name, value in scalars(engine).items() if name.endswith("_loss")
    }
