"""The mean of each scalar over an epoch, for trackers."""

from __future__ import annotations

from collections import defaultdict

from ignite.engine import Engine, Events

from sifa.handlers.engine_output import scalars


class EpochMeans:
    """Puts the mean of every scalar of an iteration's output over the epoch into `engine.state.metrics`.

    For an epoch within which a training was resumed, the mean is over the remaining iterations. Trackers such as
    MONAI's `MLFlowHandler` log these metrics at the end of an epoch, so attach this handler before them.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)

    def attach(self, engine: Engine) -> None:
        """Collects scalars in each iteration of `engine` and writes their means at the end of each epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.publish)

    def begin(self, engine: Engine) -> None:
        """Drops the values of the previous epoch."""
        self.values.clear()

    def collect(self, engine: Engine) -> None:
        """Collects the scalars of an iteration."""
        for name, value in scalars(engine).items():
            self.values[name].append(value)

    def publish(self, engine: Engine) -> None:
        """Writes the means."""
        engine.state.metrics.update({name: sum(values) / len(values) for name, values in self.values.items()})
