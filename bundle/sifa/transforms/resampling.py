"""In-plane resampling of slices, a slab at a time, at the places where `Spacingd` samples a volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


def sample_positions(size: int, step: float, spacing: float) -> torch.Tensor:
    """Returns where samples `spacing` mm apart lie on an axis of `size` samples `step` mm apart, in indices.

    The first sample stays where it is, as MONAI's `Spacing` has it: index i of the new axis is i * spacing / step.
    """
    count = max(1, round((size - 1) * step / spacing) + 1)
    return torch.arange(count, dtype=torch.float64) * (spacing / step)


def resample_slices(slices: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Samples slices (N, C, H, W) bilinearly at the given row and column positions, repeating the border beyond it.

    Returns:
        Slices (N, C, rows, columns), float32.
    """
    height, width = slices.shape[-2:]
    grids = []
    for place, size in ((positions[0], height), (positions[1], width)):
        grids.append(2 * place / max(size - 1, 1) - 1)
    rows, columns = torch.meshgrid(grids[0], grids[1], indexing="ij")
    grid = torch.stack([columns, rows], dim=-1).to(slices.device, torch.float32).expand(len(slices), -1, -1, -1)
    return functional.grid_sample(slices, grid, mode="bilinear", padding_mode="border", align_corners=True)


def restore_labels(labels: torch.Tensor, positions: Sequence[torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
    """Brings labels (N, rows, columns) back to slices of `shape`: each pixel takes the nearest sample's label."""
    indices = []
    for place, size in zip(positions, shape, strict=True):
        scale = float(place[1]) if len(place) > 1 else 1.0
        nearest = (torch.arange(size, dtype=torch.float64) / scale).round().long()
        indices.append(nearest.clamp_(max=len(place) - 1))
    return labels[:, indices[0]][:, :, indices[1]]
