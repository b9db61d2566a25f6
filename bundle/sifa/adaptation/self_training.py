"""Self-training on target images: the weight average labels them, and E and C learn from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from sifa.adaptation.field_of_view import is_taken_whole
from sifa.networks.batch_norm import running_statistics_held
from sifa.training.mixed_precision import MixedPrecision, in_full
from sifa.training.weight_average import WeightAverage
from sifa.utils.distributed import sum_over_processes, world_size


def expected_frequencies(
    source_frequencies: torch.Tensor, source_length: float, target_length: float, matched: bool = False
) -> torch.Tensor:
    """Returns the share of each class among the pixels of target slices that the source's labels let expect.

    A target scan that is longer than those of the source, across the slices, shows as much of each structure among more
    of everything else: the shares of the structures shrink by the quotient of the lengths.

    Args:
        source_frequencies: share of each class among the pixels of the source's labels, background first.
        source_length: median field of view of the source's training volumes across the slices in mm.
        target_length: the same of the target's.
        matched: whether only those slices count that `sifa.adaptation.field_of_view` finds, which are all of a scan
            that is hardly longer than the source's.
    """
    if matched and not is_taken_whole(target_length, source_length):
        target_length = source_length
    structures = source_frequencies[1:] * min(1.0, source_length / target_length)
    return torch.cat([1 - structures.sum(dim=0, keepdim=True), structures])


class SelfTraining:
    """Labels target images.

    A network that has seen no target label over- and underestimates whole classes, and draws outlines that are those of
    the source's anatomies and not of the image before it; learning from labels of its own makes that worse until a
    class is gone. Two measures against it:

    - Refinement: outlines move to where the image has edges, see `sifa.postprocessing.pamr`.
    - Alignment (Berthelot et al., ReMixMatch, ICLR 2020): the probabilities of class k are multiplied by p_k / q_k; p
      are the frequencies that the source's labels let expect, q those of the predictions of late.

    Args:
        average: the network that labels (Tarvainen and Valpola, mean teacher, NeurIPS 2017).
        frequencies: p, background first, (num_classes,); see `expected_frequencies`.
        refinement: maps probabilities (B, num_classes, H, W) and their images (B, C, H, W) to other probabilities.
        precision: what the network computes in; None: float32.
        memory: how much of q stays in an iteration: from 0 to below 1.
    """

    def __init__(
        self,
        average: WeightAverage,
        frequencies: torch.Tensor,
        refinement: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        precision: MixedPrecision | None = None,
        memory: float = 0.98,
    ) -> None:
        self.average = average
        self.frequencies = frequencies.to(torch.float32).clamp(min=1e-6)  # p
        self.refinement = refinement
        self.memory = memory
        self.teacher = (precision or MixedPrecision()).forward(average.network)
        self.predicted = self.frequencies.clone()  # q

    @torch.no_grad()
    def label(self, target_image: torch.Tensor) -> torch.Tensor:
        """Labels a batch, whose statistics normalize it.

        Args:
            target_image: (B, C, H, W) in [-1, 1].

        Returns:
            Class indices (B, 1, H, W), int64.
        """
        network = self.average.network.train()
        with running_statistics_held(network):
            probabilities = in_full(self.teacher(target_image)).softmax(dim=1)
        probabilities = self.refinement(probabilities, target_image)
        mean = sum_over_processes(probabilities.mean(dim=(0, 2, 3))) / world_size()
        self.predicted = torch.lerp(mean, self.predicted.to(mean), self.memory)
        aligned = probabilities * (self.frequencies.to(mean) / self.predicted.clamp(min=1e-6))[:, None, None]
        return aligned.argmax(dim=1, keepdim=True)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns q."""
        return {"predicted": self.predicted}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes up again what `state_dict` returned."""
        self.predicted = state["predicted"]
