"""Progress of training: a bar on a terminal, a line per epoch in the log."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from ignite.handlers import Timer
from tqdm import tqdm

from sifa.handlers.engine_output import scalars
from sifa.utils.distributed import is_main_process

logger = logging.getLogger(__name__)


class TrainingProgress:
    """Shows iterations, the losses of each update, the time left and the share of time spent waiting for data."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.first_iteration = 0
        self.session, self.epoch, self.waiting = Timer(), Timer(), Timer()  # the last two of an epoch

    def attach(self, engine: Engine) -> None:
        """Follows `engine` from start to end, on the main process."""
        if not is_main_process():
            return
        self.session.attach(engine, Events.STARTED, Events.COMPLETED)
        self.epoch.attach(engine, Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.GET_BATCH_STARTED)
        self.waiting.attach(engine, Events.EPOCH_STARTED, Events.GET_BATCH_COMPLETED, Events.GET_BATCH_STARTED)
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.log)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def start(self, engine: Engine) -> None:
        """Opens the bar; without a terminal there is none."""
        self.first_iteration = engine.state.iteration
        # Ignite's ProgressBar counts within an epoch, so it has neither the time left nor a place to resume from.
        self.bar = tqdm(
            total=_iterations(engine), initial=self.first_iteration, desc="training", unit="it", disable=None
        )

    def advance(self, engine: Engine) -> None:
        """Advances the bar by one iteration."""
        if self.bar is not None:
            self.bar.set_postfix(_losses(engine), refresh=False)
            self.bar.update()

    def log(self, engine: Engine) -> None:
        """Logs the last losses of the epoch, the time left, and the share of the iterations' time spent waiting."""
        passed, done = self.session.value(), engine.state.iteration
        left = passed / (done - self.first_iteration) * (_iterations(engine) - done)
        logger.info(
            "epoch %d of %d: %s; %.0f s passed, about %.0f s left, data wait %.1f %%",
            engine.state.epoch,
            engine.state.max_epochs or 1,
            ", ".join(f"{name} {value}" for name, value in _losses(engine).items()),
            passed,
            left,
            100 * self.waiting.value() / max(self.epoch.value(), 1e-9),
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
