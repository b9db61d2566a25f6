"""Validation every few epochs and after the last one."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines import Evaluator

from sifa.utils.errors import InputError


class ValidationSchedule:
    """Runs an evaluator every `interval` epochs, and after the last epoch whatever its number is.

    MONAI's `ValidationHandler` leaves out a last epoch that is no multiple of `interval`.

    Args:
        validator: the evaluator.
        interval: epochs between two validations.

    Raises:
        InputError: when `interval` is not a whole number from 1.
    """

    def __init__(self, validator: Evaluator, interval: int) -> None:
        if type(interval) is not int or interval < 1:
            raise InputError(f"val_interval is {interval!r}: give a whole number of epochs, or 0 for no validation.")
        self.validator = validator
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Validates while `engine` trains."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self.is_due), self.validate)

    def is_due(self, engine: Engine, epoch: int) -> bool:
        """Returns whether an epoch is followed by a validation."""
        return epoch % self.interval == 0 or epoch == engine.state.max_epochs

    def validate(self, engine: Engine) -> None:
        """Validates."""
        self.validator.run(engine.state.epoch)
