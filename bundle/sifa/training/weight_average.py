"""The exported segmenter: an average of its weights over the last iterations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sifa.networks import Segmenter
from sifa.utils.errors import InputError


class WeightAverage:
    """Exponential moving average (EMA) of the weights of C(E(.)): decay * average + (1 - decay) * current weights.

    Adversarial training oscillates; an average over some hundred iterations does not. Running batch-norm statistics
    belong to the weights that they were collected with and cannot be averaged: `sifa.adaptation.target_statistics`
    measures them again on the target. Without that (`statistics_slices: 0`, as without adaptation) the average has the
    current statistics of the segmenter.

    Args:
        segmenter: the network that trains, on its device.
        decay: from 0 (no average: the current weights) to below 1.

    Raises:
        InputError: when `decay` is out of range.
    """

    def __init__(self, segmenter: Segmenter, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"ema_decay is {decay!r}: give a number from 0 (no average) to below 1, such as 0.99.")
        self.segmenter = segmenter
        self.model = AveragedModel(segmenter, multi_avg_fn=get_ema_multi_avg_fn(decay)).requires_grad_(False)

    @property
    def network(self) -> Segmenter:
        """The averaged segmenter, a separate network."""
        network = self.model.module
        assert isinstance(network, Segmenter)
        return network

    def update(self) -> None:
        """Updates the average with the current weights; the first update sets it to them."""
        self.model.update_parameters(self.segmenter)

    def state_dict(self) -> dict[str, Any]:
        """Returns the averaged weights and the number of updates."""
        return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.model.load_state_dict(state)
