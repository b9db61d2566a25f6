"""Progress of training: a bar on a terminal, a line per epoch in the log."""

from __future__ import annotations

import logging

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Timer
from tqdm import tqdm

from sifa.handlers.engine_output import scalars
from sifa.utils.distributed import is_main_process

logger = logging.getLogger(__name__)


ESTIMATE_AFTER = 20.0  # seconds of iterations, or ...
ESTIMATE_ITERATIONS = 10  # ... this many, after which the first estimate of the time left is logged
LONG = 24.0  # hours of training beyond which there is a warning on a CPU
COMPACT = 0.25**2 * 64 * 64 * 4  # work of an iteration of compact.yaml, about a second on a CPU core
TOO_MUCH = 20  # times that work: a run on a CPU then takes days or weeks


class TrainingProgress:
    """Shows iterations, the losses of each update, the time left and the share of time spent waiting for data.

    The first estimate of the time left is logged after 10 iterations or 20 s. On a CPU, a warning is logged if training
    would take more than a day.

    Args:
        work: of an iteration: squared width of the networks x pixels of a slice x slices in a batch; None: unknown.
    """

    def __init__(self, work: float | None = None) -> None:
        self.work = work
        self.estimated = False
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
        if self.work is not None and _is_cpu(engine) and self.work > TOO_MUCH * COMPACT:
            logger.warning(
                "an iteration takes about %.0f times the work of compact.yaml, and it runs on a CPU: expect days or "
                "weeks; use a GPU, or add compact.yaml.",
                self.work / COMPACT,
            )
        # Ignite's ProgressBar counts within an epoch, so it has neither the time left nor a place to resume from.
        self.bar = tqdm(
            total=_iterations(engine), initial=self.first_iteration, desc="training", unit="it", disable=None
        )

    def advance(self, engine: Engine) -> None:
        """Advances the bar by one iteration."""
        if self.bar is not None:
            self.bar.set_postfix(_losses(engine), refresh=False)
            self.bar.update()
        done, passed = engine.state.iteration - self.first_iteration, self.session.value()
        if not self.estimated and (done >= ESTIMATE_ITERATIONS or passed >= ESTIMATE_AFTER):
            self.estimated = True
            self.estimate(engine, passed / done)

    def estimate(self, engine: Engine, seconds: float) -> None:
        """Logs how long the training will take.

        Args:
            engine: the trainer.
            seconds: of an iteration.
        """
        left = _iterations(engine) - engine.state.iteration
        duration = _duration(seconds * left)
        logger.info("%d iterations to go at %.2f s each: about %s, without validation", left, seconds, duration)
        if _is_cpu(engine) and seconds * left > LONG * 3600:
            logger.warning("this training takes about %s on this CPU: use a GPU, or compact.yaml.", duration)

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


def _is_cpu(engine: Engine) -> bool:
    return torch.device(getattr(engine.state, "device", None) or "cpu").type == "cpu"


def _duration(seconds: float) -> str:
    """Returns a duration in the unit that suits it."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds > 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _iterations(engine: Engine) -> int:
    return (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)


def _losses(engine: Engine) -> dict[str, str]:
    return {
        name.removesuffix("_loss"): f"{value:.3f}" for name, value in scalars(engine).items() if name.endswith("_loss")
    }
