"""Self-training on target images: the weight average labels them, and E and C learn what of that is to be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sifa.batch_norm import running_statistics_held
from sifa.distributed import sum_over_processes, world_size
from sifa.errors import InputError
from sifa.mixed_precision import MixedPrecision, in_full
from sifa.weight_average import WeightAverage

QUANTILE_LIMIT = 2**22  # torch.quantile takes fewer than 2^24 values


def expected_frequencies(source_frequencies: torch.Tensor, fingerprint: Mapping[str, Any]) -> torch.Tensor:
    """Returns the share of each class among the pixels of target slices that the source's labels let expect.

    A target scan that is longer than those of the source, across the slices, shows as much of each structure among more
    of everything else: the shares of the structures shrink by the quotient of the lengths.

    Args:
        source_frequencies: share of each class among the pixels of the source's labels, background first.
        fingerprint: of the training data; its median fields of view are read.
    """
    length, target_length = (
        fingerprint[domain]["training"]["median_field_of_view"][2] for domain in ("source", "target")
    )
    structures = source_frequencies[1:] * min(1.0, length / target_length)
    return torch.cat([1 - structures.sum(dim=0, keepdim=True), structures])


class SelfTraining:
    """Labels target images and tells which of their pixels count.

    A network that has seen no target label over- and underestimates whole classes, and learning from labels of its own
    makes that worse until a class is gone. Two measures against it:

    - Alignment (Berthelot et al., ReMixMatch, ICLR 2020): the probabilities of class k are multiplied by p_k / q_k; p
      are the frequencies that the source's labels let expect, q those of the predictions of late.
    - Class balance (Zou et al., CBST, ECCV 2018): of each class the same share of pixels counts, the most confident.

    Args:
        average: the network that labels (Tarvainen and Valpola, mean teacher, NeurIPS 2017).
        frequencies: p, background first, (num_classes,); see `expected_frequencies`.
        trusted_share: share of the pixels of each class that count, above 0 and at most 1.
        precision: what the network computes in; None: float32.
        memory: how much of q, and of the confidence from which on a pixel counts, stays in an iteration: from 0 to
            below 1.

    Raises:
        InputError: when `trusted_share` is out of range.
    """

    def __init__(
        self,
        average: WeightAverage,
        frequencies: torch.Tensor,
        trusted_share: float,
        precision: MixedPrecision | None = None,
        memory: float = 0.98,
    ) -> None:
        if not 0 < trusted_share <= 1:
            raise InputError(f"trusted_share is {trusted_share!r}: give a share of pixels above 0 and at most 1.")
        self.average = average
        self.frequencies = frequencies.to(torch.float32).clamp(min=1e-6)  # p
        self.trusted_share = trusted_share
        self.memory = memory
        self.teacher = (precision or MixedPrecision()).forward(average.network)
        self.predicted = self.frequencies.clone()  # q
        self.thresholds = torch.full_like(self.frequencies, 0.5)

    @torch.no_grad()
    def label(self, target_image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels a batch, whose statistics normalize it.

        Args:
            target_image: (B, C, H, W) in [-1, 1].

        Returns:
            Class indices (B, H, W), int64, and which of them count, (B, H, W), bool.
        """
        network = self.average.network.train()
        with running_statistics_held(network):
            probabilities = in_full(self.teacher(target_image)).softmax(dim=1)
        mean = sum_over_processes(probabilities.mean(dim=(0, 2, 3))) / world_size()
        self.predicted = torch.lerp(mean, self.predicted.to(mean), self.memory)
        aligned = probabilities * (self.frequencies.to(mean) / self.predicted.clamp(min=1e-6))[:, None, None]
        confidence, label = (aligned / aligned.sum(dim=1, keepdim=True)).max(dim=1)
        found = sum_over_processes(self._thresholds_of(confidence, label)) / world_size()
        self.thresholds = torch.lerp(found, self.thresholds.to(mean), self.memory)
        return label, confidence >= self.thresholds[label]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns q and the thresholds."""
        return {"predicted": self.predicted, "thresholds": self.thresholds}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes up again what `state_dict` returned."""
        self.predicted, self.thresholds = state["predicted"], state["thresholds"]

    def _thresholds_of(self, confidence: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Returns the confidence that `trusted_share` of each class's pixels reach; of a class not there the last."""
        found = self.thresholds.to(confidence).clone()
        for value in range(len(found)):
            own = confidence[label == value]
            if len(own) > 0:
                found[value] = torch.quantile(own[:: 1 + len(own) // QUANTILE_LIMIT], 1 - self.trusted_share)
        return found
