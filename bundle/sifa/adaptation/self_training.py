"""Self-training: the weight average labels target images, and E and C learn from these labels."""

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
    """Returns the expected share of each class among the pixels of target slices, (num_classes,), from source labels.

    A target scan that is longer across the slices than the source scans shows the same structures and more background,
    so the shares of the structures are scaled by the ratio of the lengths.

    Args:
        source_frequencies: share of each class among the pixels of the source labels, background first.
        source_length: median field of view of the source training volumes across the slices in mm.
        target_length: the same of the target.
        matched: whether only the slices count that `sifa.adaptation.field_of_view` finds.
    """
    if matched and not is_taken_whole(target_length, source_length):
        target_length = source_length
    structures = source_frequencies[1:] * min(1.0, source_length / target_length)
    return torch.cat([1 - structures.sum(dim=0, keepdim=True), structures])


class SelfTraining:
    """Labels target images with the weight average (mean teacher, Tarvainen and Valpola, NeurIPS 2017).

    A network that has never seen a target label over- and underestimates whole classes, and its outlines follow the
    anatomies of the source more than the image. Learning from its own labels makes both worse, until classes vanish.
    Two steps prevent this:

    - PAMR moves outlines to the edges of the image, see `sifa.postprocessing.pamr`.
    - Distribution alignment (Berthelot et al., ReMixMatch, ICLR 2020) multiplies the probabilities of class k by
      p_k / q_k, where p are the frequencies expected from the source labels and q a running mean of the predicted ones.

    Args:
        average: the weight average of the segmenter.
        frequencies: p, background first, (num_classes,); see `expected_frequencies`.
        refinement: maps probabilities (B, num_classes, H, W) and their images (B, C, H, W) to refined probabilities.
        precision: the precision that the network computes in; None: float32.
        memory: weight of the earlier q in the running mean, from 0 to below 1.
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
        """Labels a batch, which is normalized by its own statistics.

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
        """Restores the state that `state_dict` returned."""
        self.predicted = state["predicted"]
