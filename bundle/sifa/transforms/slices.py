"""A scan as slices as the fingerprint says, resampled to the network's pixel size a slab at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from sifa.transforms.intensity import normalize
from sifa.transforms.orientation import slice_turn
from sifa.transforms.resampling import resample_slices, restore_labels


def as_slices(volume: np.ndarray, affine: np.ndarray, orientation: str) -> np.ndarray:
    """Returns a volume (C, X, Y, Z) as slices (D, C, H, W), a view of the same memory.

    Axes are only reordered and flipped; slices follow the acquired grid, also when it is oblique.

    Args:
        volume: any array.
        affine: from voxel indices to RAS coordinates in mm.
        orientation: axis codes (nibabel) of H, W and D, or `acquired`; see `sifa.transforms.orientation`.
    """
    turned = nib.orientations.apply_orientation(np.moveaxis(volume, 0, -1), slice_turn(affine, orientation))
    return turned.transpose(2, 3, 0, 1)


def slice_steps(affine: np.ndarray, orientation: str) -> np.ndarray:
    """Returns the size of a voxel along H, W and D in mm; see `as_slices`."""
    sizes: np.ndarray = nib.affines.voxel_sizes(affine)
    return sizes[np.argsort(slice_turn(affine, orientation)[:, 0])]


def middle_of_labels(slices: np.ndarray) -> tuple[float, float]:
    """Returns the row and column in the middle of all labels; those of the slices where there is none.

    Args:
        slices: labels (D, H, W), 0 for background.
    """
    middles = []
    for axis, size in ((1, slices.shape[1]), (2, slices.shape[2])):
        shown = np.flatnonzero(slices.any(axis=(0, 3 - axis)))
        middles.append((shown[0] + shown[-1]) / 2 if shown.size else (size - 1) / 2)
    return float(middles[0]), float(middles[1])


def affine_of(volume: torch.Tensor) -> np.ndarray:
    """Returns the affine (4, 4) of a MetaTensor, to RAS in mm; the identity where a tensor has none."""
    return volume.affine.numpy(force=True) if isinstance(volume, MetaTensor) else np.eye(4)


class Region(NamedTuple):
    """A part of a scan: a range of slices, and of sampled rows and columns."""

    slices: slice
    rows: slice
    columns: slice


@dataclass
class ScanSlices:
    """The slices of a scan and how the network samples them.

    Attributes:
        slices: intensities (D, C, H, W), a view of the scan.
        positions: positions of the network's rows and columns, in indices of H and W.
        step: distance between slices in mm.
        window: intensities that are mapped to -1 and 1.
    """

    slices: np.ndarray
    positions: tuple[torch.Tensor, torch.Tensor]
    step: float
    window: tuple[float, float]

    @property
    def whole(self) -> Region:
        """The region that covers the whole scan."""
        rows, columns = self.positions
        return Region(slice(0, len(self.slices)), slice(0, len(rows)), slice(0, len(columns)))

    def sample(self, region: Region, device: str | torch.device) -> torch.Tensor:
        """Returns the region's slices (N, C, rows, columns) in [-1, 1] at the network's pixel size."""
        raw = torch.from_numpy(np.ascontiguousarray(self.slices[region.slices])).to(device)
        rows, columns = self.positions
        return resample_slices(normalize(raw, *self.window), (rows[region.rows], columns[region.columns]))

    def restore(self, values: torch.Tensor, region: Region) -> np.ndarray:
        """Resamples values (N, rows, columns) of a region to whole slices (N, H, W), uint8, 0 outside the region.

        Each pixel takes the value of the nearest sample.
        """
        rows, columns = self.positions
        whole = torch.zeros((len(values), len(rows), len(columns)), dtype=torch.uint8)
        whole[:, region.rows, region.columns] = values.to("cpu", torch.uint8)
        return restore_labels(whole, self.positions, self.slices.shape[2:]).numpy()
