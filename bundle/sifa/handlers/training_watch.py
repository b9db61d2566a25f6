"""Detects failed trainings: values that are not finite, discriminators that have collapsed."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ignite.engine import Engine, Events

from sifa.handlers.engine_output import scalars
from sifa.utils.distributed import is_main_process
from sifa.utils.errors import InputError
from sifa.utils.files import writing
from sifa.utils.run_warnings import NAME

logger = logging.getLogger(__name__)

CHOICES = ("stop", "warn", "ignore")
SKIPPED_STEPS = 20  # consecutive ones: a gradient scaler has then halved its scale of 2^16 to less than 1


class TrainingWatch:
    """Checks the scalars of each iteration, on every process alike, since they are means over the processes.

    It stops at the end of the iteration, so that no handler at the end of an epoch replaces good weights by useless
    ones. Each finding goes to the log and to `<output_dir>/warnings.txt` once, until it no longer holds.

    A discriminator that cannot tell real from fake has a loss of 0.25 (per head), one that always can has 0. At 0.01
    its scores are within about 0.1 of 0 and 1: it recognizes nearly every fake, and the generator no longer improves.
    Good trainings pass through this as well, but not for 500 iterations, 2 % of the paper's number.

    Args:
        output_dir: folder of `warnings.txt`.
        on_nan: reaction to a scalar that is NaN or infinite: `stop`, `warn` or `ignore`.
        on_collapse: reaction to a discriminator loss that stays low: one of these.
        collapse_below: losses below this are low.
        collapse_iterations: number of consecutive iterations with a low loss.
        gradient_scaler: whether a step with a gradient that is not finite is skipped (float16), which is how the scaler
            finds its scale. Gradient norms then never stop the training and cause a warning after 20 consecutive
            iterations.

    Raises:
        InputError: when `on_nan` or `on_collapse` is none of these.
    """

    def __init__(
        self,
        output_dir: str | Path,
        on_nan: str = "stop",
        on_collapse: str = "warn",
        collapse_below: float = 0.01,
        collapse_iterations: int = 500,
        gradient_scaler: bool = False,
    ) -> None:
        for name, value in (("on_nan", on_nan), ("on_collapse", on_collapse)):
            if value not in CHOICES:
                raise InputError(f"{name} is {value!r}: choose from {', '.join(CHOICES)}.")
        self.path = Path(output_dir) / NAME
        self.on_nan = on_nan
        self.on_collapse = on_collapse
        self.collapse_below = collapse_below
        self.collapse_iterations = collapse_iterations
        self.gradient_scaler = gradient_scaler
        self.lasting: Counter[str] = Counter()  # number of consecutive iterations of each finding

    def attach(self, engine: Engine) -> None:
        """Checks each iteration of `engine`."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.judge)

    def start(self, engine: Engine) -> None:
        """Drops the findings of an earlier run; `collect_warnings` has removed its file."""
        self.lasting.clear()

    def judge(self, engine: Engine) -> None:
        """Checks the scalars of this iteration.

        Raises:
            InputError: when training has to stop.
        """
        values = scalars(engine)
        when = f"at epoch {engine.state.epoch}, iteration {engine.state.iteration}"
        norms = _ending("_gradient_norm", values) if self.gradient_scaler else {}
        self._judge_finite({name: value for name, value in values.items() if name not in norms}, when)
        self._judge_steps(norms, when)
        self._judge_collapse(_ending("_discriminator_loss", values), when)

    def _judge_finite(self, values: Mapping[str, float], when: str) -> None:
        names = [name for name, value in values.items() if self._lasted(f"NaN {name}", not math.isfinite(value)) == 1]
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            self._act(
                self.on_nan,
                f"{', '.join(names[:3])}{more}: not a finite number {when}, so training has diverged: start again "
                "with lower learning rates or with precision float32.",
            )

    def _judge_steps(self, norms: Mapping[str, float], when: str) -> None:
        for name, value in norms.items():
            if self._lasted(f"NaN {name}", not math.isfinite(value)) == SKIPPED_STEPS:
                self._act(
                    "ignore" if self.on_nan == "ignore" else "warn",
                    f"{name}: not finite for {SKIPPED_STEPS} iterations in a row {when}, which left the weights "
                    "unchanged: set precision to bfloat16 or float32.",
                )

    def _judge_collapse(self, losses: Mapping[str, float], when: str) -> None:
        for name, value in losses.items():
            if self._lasted(f"low {name}", value < self.collapse_below) == self.collapse_iterations:
                self._act(
                    self.on_collapse,
                    f"{name}: below {self.collapse_below} for {self.collapse_iterations} iterations in a row {when}: "
                    "the discriminator recognizes every fake, and the fakes do not improve: lower adversarial_lr, or "
                    "set on_collapse to ignore.",
                )

    def _lasted(self, finding: str, holds: bool) -> int:
        """Returns the number of consecutive iterations in which a finding held, including this one."""
        self.lasting[finding] = self.lasting[finding] + 1 if holds else 0
        return self.lasting[finding]

    def _act(self, choice: str, message: str) -> None:
        if choice == "ignore":
            return
        if is_main_process():
            self._note(message)
        if choice == "stop":
            raise InputError(message)
        if is_main_process():
            logger.warning(message)

    def _note(self, message: str) -> None:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(f"{message}\n")


def _ending(ending: str, values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name.endswith(ending)}
