"""Distances between the surfaces of two masks, and the metrics that are made of them.

The surface of a mask is its voxels that have one of the six neighbors outside of it; beyond the array is outside. A
distance is that of two voxel centers: from each surface voxel of one mask to the nearest surface voxel of the other.
MONAI finds both; its metrics are functions of the same distances, which here are computed once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.utils import get_mask_edges, get_surface_distance

Array = npt.NDArray[np.float64]

ROUNDING = 1e-4  # mm by which a distance may exceed the tolerance of NSD: headers round voxel sizes


class Surfaces(NamedTuple):
    """The surfaces of two masks that are not empty: truth values (X, Y, Z) on a common part of the grid."""

    pred: torch.Tensor
    truth: torch.Tensor


class SurfaceDistances(NamedTuple):
    """The distances of all surface voxels of each mask to the other mask's surface."""

    pred_to_truth: Array  # (surface voxels of the prediction,)
    truth_to_pred: Array  # (surface voxels of the truth,)


def find_surfaces(pred: torch.Tensor, truth: torch.Tensor, crop: bool = True) -> Surfaces:
    """Returns the surfaces of two masks.

    Args:
        pred: binary mask (X, Y, Z), not empty.
        truth: binary mask of that shape, not empty.
        crop: whether to crop both to the bounding box of their union first.
    """
    return Surfaces(*get_mask_edges(pred.bool(), truth.bool(), crop=crop)[:2])


def measure_distances(surfaces: Surfaces, spacing: Sequence[float] | None = None) -> SurfaceDistances:
    """Returns the distances between two surfaces.

    Args:
        surfaces: of two masks.
        spacing: voxel size in mm; None: distances in voxels.
    """
    steps = None if spacing is None else tuple(spacing)
    forth = get_surface_distance(surfaces.pred, surfaces.truth, spacing=steps)
    back = get_surface_distance(surfaces.truth, surfaces.pred, spacing=steps)
    return SurfaceDistances(*(torch.as_tensor(one).numpy(force=True).astype(np.float64) for one in (forth, back)))


def mean_of_directed_means(distances: SurfaceDistances) -> float:
    """Returns the average symmetric surface distance: the mean of the two directed means.

    `medpy.metric.binary.assd` before medpy 0.5 is this number. MONAI's symmetric metric averages the distances of both
    directions pooled, which is another one.
    """
    return float(distances.pred_to_truth.mean() + distances.truth_to_pred.mean()) / 2


def hausdorff_95(distances: SurfaceDistances) -> float:
    """Returns the larger one of the 95th percentiles of both directions, as MONAI's `HausdorffDistanceMetric`."""
    return float(max(np.percentile(one, 95) for one in distances))


def surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """Returns the normalized surface Dice: the share of all surface voxels within the tolerance of the other surface.

    It is that of MONAI's `SurfaceDiceMetric` but for `ROUNDING`.

    Args:
        distances: between both surfaces.
        tolerance: in the unit of the distances.
    """
    within = sum(int(np.count_nonzero(one <= tolerance + ROUNDING)) for one in distances)
    return within / sum(one.size for one in distances)
