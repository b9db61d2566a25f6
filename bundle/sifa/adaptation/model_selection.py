"""Model selection: a score of a segmenter on the target that needs no target labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.networks import eval_mode
from torch import nn

from sifa.adaptation.target_statistics import TargetStatistics
from sifa.training.mixed_precision import in_full
from sifa.transforms.random_appearance import RandomAppearanced


class ModelSelectionScore:
    """Agreement of the segmenter's predictions under random appearance, times the plausibility of their volumes.

    Two things go wrong without target labels: predictions depend on textures and contrasts that mean nothing, and whole
    classes are over-segmented or missing. For each structure k, always on the same unlabeled target slices:

    - agreement: Dice of the predictions for the slices and for the slices with a random appearance, from 0 to 1;
    - plausibility: min(q_k / p_k, p_k / q_k); q_k is the predicted share of pixels, p_k the expected one.

    The score is the mean of their product over structures: 0 for a missing structure, 1 at best.

    Args:
        statistics: the target slices.
        frequencies: p, background first; see `sifa.adaptation.self_training.expected_frequencies`.
        seed: seed of the random appearances, which are the same in every epoch.
    """

    def __init__(self, statistics: TargetStatistics, frequencies: torch.Tensor, seed: int = 0) -> None:
        self.statistics = statistics
        self.frequencies = frequencies.clamp(min=1e-6)  # finite scores for a class that the source lacks
        self.seed = seed

    def __call__(self, segmenter: nn.Module) -> dict[str, float]:
        """Returns `score`, and the means over structures of `agreement` and `plausibility`, each from 0 to 1.

        The segmenter runs in evaluation mode, without PAMR, and then returns to the mode that it was in.
        """
        appearance = RandomAppearanced("image").set_random_state(seed=self.seed)
        counts = np.zeros((4, len(self.frequencies)))  # prediction, prediction of the view, both; pixels
        with eval_mode(segmenter):
            for batch in self.statistics.batches():
                views = torch.stack([_view(image, appearance) for image in batch])
                one, other = (_predict(segmenter, images, self.statistics.device) for images in (batch, views))
                for number, labels in enumerate((one, other, one[one == other])):
                    counts[number] += np.bincount(labels, minlength=counts.shape[1])
                counts[3] += len(one)
        found, seen, both, pixels = counts[:, 1:]
        agreement = 2 * both / np.maximum(found + seen, 1)
        ratio = found / pixels / self.frequencies[1:].numpy(force=True)
        plausibility = np.minimum(ratio, 1 / np.maximum(ratio, 1e-9))
        return {
            "score": float(np.mean(agreement * plausibility)),
            "agreement": float(np.mean(agreement)),
            "plausibility": float(np.mean(plausibility)),
        }


def _view(image: torch.Tensor, appearance: Any) -> torch.Tensor:
    view = appearance({"image": image})["image"]
    assert isinstance(view, torch.Tensor)
    return view


def _predict(segmenter: nn.Module, images: torch.Tensor, device: torch.device) -> np.ndarray:
    """Maps (B, C, H, W) to the class indices of all pixels, flattened."""
    labels: np.ndarray = in_full(segmenter(images.to(device))).argmax(dim=1).flatten().numpy(force=True)
    return labels
