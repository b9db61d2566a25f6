"""Source scans made to look like target scans, at every quality, without their labels."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from sifa.quality_control.views import random_appearance

KINDS = ("translated", "appearance", "both")


@torch.no_grad()
def translate(slices: torch.Tensor, target_generator: nn.Module, segmenter: nn.Module) -> torch.Tensor:
    """Returns G_t of source slices (N, C, H, W) in [-1, 1]; where G_t is guided, by C(E(x_s)) and never by y_s."""
    guided = bool(target_generator.num_classes)
    parts = [target_generator(part, segmenter(part).softmax(dim=1) if guided else None) for part in slices.split(8)]
    return torch.cat(parts)


def imitate(
    slices: torch.Tensor, kind: str, target_generator: nn.Module | None, segmenter: nn.Module, seed: int
) -> torch.Tensor:
    """Returns slices that imitate the target.

    Args:
        slices: of a source scan, (N, C, H, W) in [-1, 1].
        kind: one of `KINDS`: G_t, random appearance, or random appearance of G_t.
        target_generator: G_t; None: every kind is of random appearance.
        segmenter: C(E(.)), which guides G_t.
        seed: of the appearance and of the degradation.
    """
    images = slices
    if target_generator is not None and kind != "appearance":
        images = translate(images, target_generator, segmenter)
    if target_generator is None or kind != "translated":
        images = random_appearance(images, seed)
    return degrade(images, seed)


def degrade(slices: torch.Tensor, seed: int) -> torch.Tensor:
    """Returns slices (N, C, H, W) in [-1, 1] with blur, a bias field, contrast and noise, each of random strength."""
    rng = np.random.default_rng([seed, 1])
    strength = rng.uniform(0, 1) ** 2 * rng.uniform(0, 1, 5)  # most scans are good
    images = slices.numpy(force=True).astype(np.float32)
    images = gaussian_filter(images, (3 * strength[0], 0, 3 * strength[1], 3 * strength[1]))
    field = np.linspace(-1, 1, images.shape[2], dtype=np.float32)[:, None]
    images = (images + 1) * np.exp(strength[2] * rng.choice([-1, 1]) * field) - 1
    share = np.clip((images + 1) / 2, 0, 1) ** np.exp(1.5 * strength[3] * rng.choice([-1, 1]))
    noise = 0.5 * strength[4] * rng.standard_normal(images.shape)
    return torch.from_numpy(np.clip(2 * share - 1 + noise, -1, 1).astype(np.float32)).to(slices.device)
