"""In-plane resampling of slices, at the positions at which `Spacingd` samples a volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


def sample_positions(size: int, step: float, spacing: float) -> torch.Tensor:
    """Returns the positions, in indices, of samples `spacing` mm apart on an axis of `size` pixels `step` mm apart.

    As in MONAI's `Spacing`, the first sample is the first pixel: sample i lies at index i * spacing / step.
    """
    count = max(1, round((size - 1) * step / spacing) + 1)
    return torch.arange(count, dtype=torch.float64) * (spacing / step)


def resample_slices(slices: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Samples slices (N, C, H, W) bilinearly at row and column positions, repeating the border outside.

    Returns:
        Slices (N, C, rows, columns), float32.
    """
    height, width = slices.shape[-2:]
    grids = []
    for position, size in ((positions[0], height), (positions[1], width)):
        grids.append(2 * position / max(size - 1, 1) - 1)
    rows, columns = torch.meshgrid(grids[0], grids[1], indexing="ij")
    grid = torch.stack([columns, rows], dim=-1).to(slices.device, torch.float32).expand(len(slices), -1, -1, -1)
    return functional.grid_sample(slices, grid, mode="bilinear", padding_mode="border", align_corners=True)


def restore_labels(labels: torch.Tensor, positions: Sequence[torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
    """Resamples labels (N, rows, columns) back to slices of `shape`: each pixel takes the nearest sample's label."""
    indices = []
    for position, size in zip(positions, shape, strict=True):
        scale = float(position[1]) if len(position) > 1 else 1.0
        nearest = (torch.arange(size, dtype=torch.float64) / scale).round().long()
        indices.append(nearest.clamp_(max=len(position) - 1))
    return labels[:, indices[0]][:, :, indices[1]]
