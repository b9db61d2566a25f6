"""The metrics of an evaluation: names, headings, units and what counts as better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DICE = "mean_dice"
ASSD_VOXELS = "surface_distance_voxels"
ASSD_MM = "surface_distance_mm"
IOU = "iou"
HD95 = "hd95_mm"
NSD = "nsd"
PRECISION = "precision"
RECALL = "recall"
VOLUME_DIFFERENCE_ML = "volume_difference_ml"
VOLUME_DIFFERENCE_PERCENT = "volume_difference_percent"
PREDICTED_VOLUME = "predicted_volume_ml"
TRUE_VOLUME = "true_volume_ml"

MAIN = (DICE, NSD, ASSD_MM, HD95)  # of short tables, of figures and of comparisons, unless others are asked for


@dataclass(frozen=True)
class Metric:
    """A metric of one structure of one case.

    Args:
        name: in files.
        heading: in tables, with the unit.
        digits: after the decimal point, in tables.
        better: which values are better; `zero`: those nearer to 0; None: the metric only describes.
    """

    name: str
    heading: str
    digits: int
    better: Literal["higher", "lower", "zero"] | None


def metrics_at(tolerance_mm: float) -> dict[str, Metric]:
    """Returns all metrics by name, in the order of files, for a tolerance of NSD in mm."""
    listed = (
        Metric(DICE, "Dice (%)", 1, "higher"),
        Metric(ASSD_VOXELS, "ASD (voxels)", 2, "lower"),
        Metric(ASSD_MM, "ASD (mm)", 2, "lower"),
        Metric(IOU, "IoU (%)", 1, "higher"),
        Metric(HD95, "HD95 (mm)", 2, "lower"),
        Metric(NSD, f"NSD at {tolerance_mm:g} mm (%)", 1, "higher"),
        Metric(PRECISION, "precision (%)", 1, "higher"),
        Metric(RECALL, "recall (%)", 1, "higher"),
        Metric(VOLUME_DIFFERENCE_ML, "volume difference (ml)", 2, "zero"),
        Metric(VOLUME_DIFFERENCE_PERCENT, "volume difference (%)", 1, "zero"),
        Metric(PREDICTED_VOLUME, "predicted volume (ml)", 2, None),
        Metric(TRUE_VOLUME, "true volume (ml)", 2, None),
    )
    return {metric.name: metric for metric in listed}
