"""The mean of each loss over an epoch, where trackers look for it."""

from __future__ import annotations

from collections import defaultdict

from ignite.engine import Engine, Events

from sifa.handlers.engine_output import scalars


class EpochMeans:
    """Puts the mean of every scalar of an iteration's output over the epoch into `engine.state.metrics`.

    Of an epoch that a training went on within, the mean is over the rest. Trackers such as MONAI's `MLFlowHandler` log
    what is there at the end of an epoch, so attach this one before them.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)

    def attach(self, engine: Engine) -> None:
        """Listens to the iterations and epochs of `engine`."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.publish)

    def begin(self, engine: Engine) -> None:
        """Forgets the epoch before."""
        self.values.clear()

    def collect(self, engine: Engine) -> None:
        """Keeps the scalars of an iteration."""
        for name, value in scalars(engine).items():
            self.values[name].append(value)

    def publish(self, engine: Engine) -> None:
        """Writes the means."""
        engine.state.metrics.update({name: sum(values) / len(values) for name, values in self.values.items()})
