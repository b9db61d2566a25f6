"""Hides what networks make of padding, so that neither losses nor discriminators see it."""

from __future__ import annotations

import torch

from sifa.transforms.intensity import AIR

CERTAIN = 10.0  # logit of the background in padding, and of the other classes with the opposite sign


def hide_in_image(image: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
    """Returns images (B, C, H, W) with air in padding, through which no gradient flows.

    Args:
        image: what a network computed.
        inside: (B, 1, H, W), false in padding; None: there is no padding, and the image is returned.
    """
    return image if inside is None else torch.where(inside, image, AIR)


def hide_in_logits(logits: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
    """Returns logits (B, num_classes, H, W) that are sure of the background in padding; see `hide_in_image`."""
    if inside is None:
        return logits
    background = torch.full((1, logits.shape[1], 1, 1), -CERTAIN, dtype=logits.dtype, device=logits.device)
    background[:, 0] = CERTAIN
    return torch.where(inside, logits, background)


def hide_in_label(label: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
    """Returns class indices (B, 1, H, W) that are background in padding; see `hide_in_image`."""
    return label if inside is None else torch.where(inside, label, 0)
