"""Average symmetric surface distance as medpy before 0.5 defines it, as an Ignite metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.handlers.ignite_metric import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction

from sifa.metrics.surface_distances import find_surfaces, mean_of_directed_means, measure_distances


def average_surface_distance(pred: torch.Tensor, truth: torch.Tensor, spacing: Sequence[float] | None = None) -> float:
    """Mean of the two directed mean surface distances (`medpy.metric.binary.assd` before medpy 0.5).

    MONAI's symmetric metric averages the distances of both directions pooled, which is another number.

    Args:
        pred: binary mask (X, Y, Z).
        truth: binary mask of that shape.
        spacing: voxel size in mm; None: distances in voxels.

    Returns:
        The distance, or NaN when either mask is empty.
    """
    if not bool(pred.any()) or not bool(truth.any()):
        return float("nan")
    return mean_of_directed_means(measure_distances(find_surfaces(pred, truth), spacing))


class AverageSurfaceDistance(CumulativeIterationMetric):
    """Average surface distance of each foreground class; NaN where prediction or truth lack it.

    Args:
        millimeters: whether distances are in mm, by the prediction's affine, or in voxels.
    """

    def __init__(self, millimeters: bool) -> None:
        super().__init__()
        self.millimeters = millimeters

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Maps one-hot masks (B, classes, X, Y, Z) with background first to distances (B, classes - 1)."""
        if y is None:
            raise ValueError("the surface distance needs the truth.")
        spacing: list[float] | None = None
        if self.millimeters:
            if not isinstance(y_pred, MetaTensor):
                raise ValueError("distances in mm need a prediction with an affine (a MetaTensor).")
            spacing = [float(step) for step in affine_to_spacing(y_pred.affine)]
        rows = [
            [average_surface_distance(p, t, spacing) for p, t in zip(pred[1:], truth[1:], strict=True)]
            for pred, truth in zip(y_pred.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor), strict=True)
        ]
        return torch.tensor(rows)

    def aggregate(self) -> torch.Tensor:
        """Returns the mean over volumes and classes, without NaN entries (which the results table counts)."""
        return do_metric_reduction(self.get_buffer(), "mean")[0]


class SurfaceDistance(IgniteMetricHandler):
    """Ignite metric around `AverageSurfaceDistance`; per volume and class in `engine.state.metric_details`.

    Args:
        millimeters: whether distances are in mm or in voxels.
        output_transform: maps `engine.state.output` to prediction and truth, lists of one-hot masks (classes, X, Y, Z).
    """

    def __init__(self, millimeters: bool = False, output_transform: Callable = lambda output: output) -> None:
        super().__init__(metric_fn=AverageSurfaceDistance(millimeters), output_transform=output_transform)
