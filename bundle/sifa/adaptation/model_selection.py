"""How good a segmenter is on the target, told without a target label."""

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
    """Agreement of the segmenter with itself under another appearance, times the plausibility of what it finds.

    Two things go wrong without target labels: predictions hang on textures and contrasts that mean nothing, and whole
    classes are found too much or not at all. For each structure k, on the same unlabeled target slices each time:

    - agreement: Dice of the predictions for the slices and for the slices with a random appearance, from 0 to 1;
    - plausibility: min(q_k / p_k, p_k / q_k); q_k is the share of pixels predicted, p_k the one expected.

    The score is the mean over structures of their product: 0 for a structure that is not found, 1 at best.

    Args:
        statistics: the target slices.
        frequencies: p, background first; see `sifa.adaptation.self_training.expected_frequencies`.
        seed: of the random appearances, the same each time.
    """

    def __init__(self, statistics: TargetStatistics, frequencies: torch.Tensor, seed: int = 0) -> None:
        self.statistics = statistics
        self.frequencies = frequencies.clamp(min=1e-6)  # a class that the source lacks: found or not, finite
        self.seed = seed

    def __call__(self, segmenter: nn.Module) -> dict[str, float]:
        """Returns `score`, and the means over structures of `agreement` and `plausibility`, each from 0 to 1.

        The segmenter is used in evaluation mode, without refinement behind it, and is left in the mode that it was in.
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
    """Maps (B, C, H, W) to the class indices of all pixels, in a row."""
    labels: np.ndarray = in_full(segmenter(images.to(device))).argmax(dim=1).flatten().numpy(force=True)
    return labels
