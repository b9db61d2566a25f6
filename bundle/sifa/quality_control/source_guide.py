"""A network for source images, which tells G_t what a held-out source scan shows without its label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch.optim import Adam
from tqdm import tqdm

from sifa.data.slice_cache import Preprocessing, cut_volume
from sifa.networks.segmenter import Segmenter
from sifa.transforms.padding import without_marks

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

ITERATIONS = 200  # on the phantom, G_t is then guided as well as by the labels
BATCH_SIZE, LEARNING_RATE = 4, 3e-4
SLICES = 2000  # of the source training scans, at most


def fine_tune_on_source(
    network: Segmenter,
    items: Sequence[Mapping[str, str]],
    preprocessing: Preprocessing,
    loss: Loss,
    device: str | torch.device,
    seed: int = 0,
) -> Segmenter:
    """Returns a copy of a network that has learned source images again, in evaluation mode.

    Adaptation leaves C(E(.)) poor on source images themselves, and a guided G_t draws what it is told. The copy is
    trained with Eq. 3 on source training scans, so that it can tell what held-out scans show.

    Args:
        network: C(E(.)) of the adapted run; it is not changed.
        items: source training scans with their labels.
        preprocessing: of source volumes in training.
        loss: Eq. 3, of logits (B, num_classes, H, W) and class indices (B, 1, H, W).
        device: where the copy is trained.
        seed: of the batches.
    """
    guide = deepcopy(network).to(device)
    images, labels = _prepare(items, preprocessing)
    optimizer = Adam(guide.parameters(), LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    guide.train()
    with torch.enable_grad():
        for _ in tqdm(range(ITERATIONS), desc="guide of imitation", unit="iteration", disable=None):
            batch = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
            optimizer.zero_grad()
            loss(guide(images[batch].to(device)), labels[batch].to(device)).backward()
            optimizer.step()
    return guide.eval()


def _prepare(items: Sequence[Mapping[str, str]], preprocessing: Preprocessing) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns evenly spaced slices of all scans, (N, C, H, W), and their labels, (N, 1, H, W)."""
    images, labels = [], []
    for item in tqdm(items, desc="source scans of the guide", unit="scan", leave=False, disable=None):
        slices = cut_volume(item, preprocessing, ("image", "label"))
        count = len(slices["image"])
        places = np.linspace(0, count - 1, min(count, max(1, SLICES // len(items)))).round().astype(int)
        images.append(without_marks(slices["image"][places]))
        labels.append(slices["label"][places].long())
    return torch.cat(images), torch.cat(labels)
