"""The segmenter that is exported: an average of its weights over the last iterations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sifa.networks import Segmenter
from sifa.utils.errors import InputError


class WeightAverage:
    """Exponential moving average of C(E(.)): after each iteration `decay` of it stays, the rest is today's weights.

    Adversarial training swings; its average over some hundred iterations does not. Batch norm's running statistics fit
    the weights that they were collected with and cannot be averaged: `sifa.adaptation.target_statistics` measures them
    anew on the target. Where it does not (`statistics_slices: 0`, as without adaptation), they are the segmenter's of
    that moment.

    Args:
        segmenter: the network that trains, where it trains.
        decay: from 0 (no average: today's weights) to below 1.

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
        """The averaged segmenter, a network of its own."""
        network = self.model.module
        assert isinstance(network, Segmenter)
        return network

    def update(self) -> None:
        """Takes up the segmenter's weights; the first time they are all of the average."""
        self.model.update_parameters(self.segmenter)

    def state_dict(self) -> dict[str, Any]:
        """Returns the averaged weights and the number of updates."""
        return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up again what `state_dict` returned."""
        self.model.load_state_dict(state)
