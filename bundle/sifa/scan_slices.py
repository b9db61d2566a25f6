"""A scan as slices of the fingerprint's plane, sampled at the network's pixel size, a slab at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch

from sifa.intensity import normalize
from sifa.resampling import resample_slices, restore_labels


def as_slices(volume: np.ndarray, affine: np.ndarray, orientation: str) -> np.ndarray:
    """Returns a volume (C, X, Y, Z) as slices (D, C, H, W), a view on the same memory.

    Axes are only reordered and flipped, along the grid as it was acquired, however oblique it is.

    Args:
        volume: any array.
        affine: of its grid, to RAS in mm.
        orientation: axis codes (nibabel) of H, W and D.
    """
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(orientation))
    )
    turned = nib.orientations.apply_orientation(np.moveaxis(volume, 0, -1), turn)
    return turned.transpose(2, 3, 0, 1)


def slice_steps(affine: np.ndarray, orientation: str) -> np.ndarray:
    """Returns the size of a voxel along H, W and D in mm; see `as_slices`."""
    found, wanted = nib.io_orientation(affine)[:, 0], nib.orientations.axcodes2ornt(tuple(orientation))[:, 0]
    sizes = nib.affines.voxel_sizes(affine)
    return np.array([sizes[int(np.flatnonzero(found == axis)[0])] for axis in wanted])


class Region(NamedTuple):
    """A part of a scan: a range of slices, and of sampled rows and columns."""

    slices: slice
    rows: slice
    columns: slice


@dataclass
class ScanSlices:
    """The slices of a scan.

    Attributes:
        slices: intensities (D, C, H, W), a view on the scan.
        positions: where the network's rows and columns are sampled, in indices of H and W.
        step: distance of slices in mm.
        window: intensities that become -1 and 1.
        neighboring: how many neighboring slices make the channels of a sample, odd.
    """

    slices: np.ndarray
    positions: tuple[torch.Tensor, torch.Tensor]
    step: float
    window: tuple[float, float]
    neighboring: int = 1

    @property
    def whole(self) -> Region:
        """The region that is everything."""
        rows, columns = self.positions
        return Region(slice(0, len(self.slices)), slice(0, len(rows)), slice(0, len(columns)))

    def sample(self, region: Region, device: str | torch.device) -> torch.Tensor:
        """Returns the region's slices (N, neighboring, rows, columns) in [-1, 1] at the network's pixel size.

        Beyond the first and the last slice a scan goes on as it ends; see `sifa.transforms.NeighboringSlicesd`.
        """
        half = self.neighboring // 2
        places = np.arange(region.slices.start - half, region.slices.stop + half).clip(0, len(self.slices) - 1)
        raw = torch.from_numpy(self.slices[places]).to(device)
        rows, columns = self.positions
        sampled = resample_slices(normalize(raw, *self.window), (rows[region.rows], columns[region.columns]))
        count = len(places) - 2 * half
        return torch.cat([sampled[first : first + count] for first in range(self.neighboring)], dim=1)

    def restore(self, values: torch.Tensor, region: Region) -> np.ndarray:
        """Brings values (N, rows, columns) of a region back to whole slices (N, H, W), uint8, 0 outside the region.

        Each pixel takes the value of the nearest sample.
        """
        rows, columns = self.positions
        whole = torch.zeros((len(values), len(rows), len(columns)), dtype=torch.uint8)
        whole[:, region.rows, region.columns] = values.to("cpu", torch.uint8)
        return restore_labels(whole, self.positions, self.slices.shape[2:]).numpy()
