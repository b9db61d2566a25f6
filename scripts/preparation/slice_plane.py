"""Proposes the plane of the slices from the voxel sizes of the scans: never across the coarse axis of a domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sifa.utils.errors import InputError

PLANES = ("sagittal", "coronal", "axial")  # by the axis that the slices follow: left-right, front-back, head-foot
COARSER = 1.5  # ratio of voxel sizes from which on an axis is coarse


def propose_plane(source: Sequence[npt.NDArray[np.float64]], target: Sequence[npt.NDArray[np.float64]]) -> str:
    """Returns the plane in which the scans were acquired; axial where their voxels are about as long as wide.

    Args:
        source: voxel sizes of each source scan in mm, along left-right, front-back and head-foot.
        target: those of each target scan.

    Raises:
        InputError: when source and target are coarse along different axes, so that no plane suits both.
    """
    coarse = {
        domain: coarse_axis(np.median(sizes, axis=0)) for domain, sizes in (("source", source), ("target", target))
    }
    axes = {axis for axis in coarse.values() if axis is not None}
    if len(axes) > 1:
        words = " and ".join(
            f"the {domain} in {PLANES[axis]} slices" for domain, axis in coarse.items() if axis is not None
        )
        raise InputError(
            f"{words} were acquired, and slices of one plane run along the coarse axis of the other: decide with "
            "--slice_plane, or leave one kind of scans out."
        )
    return PLANES[axes.pop()] if axes else "axial"


def coarse_axis(sizes: npt.NDArray[np.float64]) -> int | None:
    """Returns the axis along which voxels are much longer than along both others; None where there is none."""
    axis = int(sizes.argmax())
    return axis if sizes[axis] > COARSER * np.delete(sizes, axis).max() else None
