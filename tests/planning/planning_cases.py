"""Training data that tests of planning share: axial scans of an abdomen, made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from builders import make_fingerprint
from sifa.fingerprint.fingerprint import Domain, Fingerprint, TrainingSummary
from sifa.fingerprint.statistics import DomainStatistics, TrainingStatistics

STATISTICS = TrainingStatistics(
    source=DomainStatistics(voxels=(4096, 4096, 564), median_body=(300.0, 320.0, 273.0), bright_share=0.5),
    target=DomainStatistics(voxels=(3520, 3520, 2627), median_body=(330.0, 350.0, 456.0), bright_share=0.03),
    label_extent=(250.0, 305.0, 260.0),
    structures={"left": (180.0, 200.0, 170.0), "right": (61.0, 70.0, 110.0)},
)
SETTINGS: dict[str, Any] = {  # of the plan for them
    "slice_plane": "axial",
    "slice_size": [128, 128],
    "pixel_spacing": 2.75,
    "batch_size": 4,
    "epochs": 15,
    "iterations_per_epoch": 100,
    "num_workers": 0,
    "match_intensity": {"source": [-0.95, 1], "target": [-0.95, 0.63]},
    "match_field_of_view": True,
    "random_appearance_weight": 1,
}


def abdomen(**changes: Any) -> Fingerprint:
    """Returns the fingerprint of these data, with the slices of `SETTINGS`."""
    source = TrainingSummary(16, (0.0, 900.0), (1.25, 1.25, 7.7), (320.0, 320.0, 273.0))
    target = TrainingSummary(20, (-125.0, 275.0), (2.0, 2.0, 3.0), (350.0, 350.0, 456.0))
    fingerprint = make_fingerprint(
        slice_plane="axial",
        orientation="PLS",
        slice_size=(128, 128),
        spacing=(2.75, 2.75, 0.0),
        source=Domain("MR", {"mode": "percentiles", "lower": 0.5, "upper": 99.5}, source),
        target=Domain("CT", {"mode": "window", "lower": -125.0, "upper": 275.0}, target),
        statistics=STATISTICS,
    )
    return replace(fingerprint, **changes)
