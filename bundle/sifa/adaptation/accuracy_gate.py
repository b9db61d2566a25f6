"""The gate of ADDA and CyCADA: features adapt only while the discriminator tells the domains apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch

from sifa.utils.distributed import sum_over_processes, world_size
from sifa.utils.errors import InputError


class AccuracyGate:
    """Is open while the mean accuracy of a discriminator exceeds a threshold.

    A discriminator at the level of chance teaches nothing. CyCADA's authors let the network move only where the mean
    accuracy of the last 100 iterations exceeds 0.6.

    Args:
        threshold: accuracy, from 0 to 1, that has to be exceeded; None: the gate is always open.
        window: number of iterations that the mean is taken over.

    Raises:
        InputError: when an argument is out of range.
    """

    def __init__(self, threshold: float | None, window: int = 1) -> None:
        if threshold is not None and not 0 <= threshold < 1:
            raise InputError(f"gate#threshold is {threshold!r}: give an accuracy from 0 to below 1, or null.")
        if window < 1:
            raise InputError(f"gate#window is {window!r}: give a number of iterations from 1.")
        self.threshold = threshold
        self.accuracies: deque[float] = deque(maxlen=window)

    def update(self, accuracy: torch.Tensor) -> bool:
        """Takes the accuracy of this iteration, a scalar, and returns whether the gate is open.

        All processes that train together get the same answer, from the mean of their accuracies.
        """
        self.accuracies.append(float(sum_over_processes(accuracy.detach()) / world_size()))
        return self.threshold is None or sum(self.accuracies) / len(self.accuracies) > self.threshold

    def state_dict(self) -> dict[str, Any]:
        """Returns the last accuracies."""
        return {"accuracies": list(self.accuracies)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.accuracies.clear()
        self.accuracies.extend(state["accuracies"])
