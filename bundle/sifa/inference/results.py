"""The results of inference on one scan: what the network predicts, and what is handed to the writers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

UNCERTAINTY_SCALE = 200  # steps of the uncertainty map, from 0 to the greatest possible entropy
PROBABILITY_SCALE = 200  # steps of class probabilities, from 0 to 1


@dataclass
class Segmentation:
    """What the network predicts for a scan."""

    labels: torch.Tensor  # (X, Y, Z) uint8: classes, in the scan's own order and grid
    pixels: np.ndarray  # (classes,): sampled pixels of each class, removed components included
    confidence: np.ndarray  # (classes,): sum over these pixels of the largest probability
    entropy: np.ndarray  # (classes,): sum over these pixels of the entropy, as a share of the greatest
    window: tuple[float, float]  # intensities that the network sees as -1 and 1
    dropped: np.ndarray  # (classes,): voxels of removed components, see `sifa.postprocessing.spatial_prior`
    uncertainty: torch.Tensor | None = None  # (X, Y, Z) uint8: share of the greatest entropy * UNCERTAINTY_SCALE
    # (classes,): sum over all sampled pixels of the probability of the class
    mass: np.ndarray = field(default_factory=lambda: np.zeros(0))


class PredictedDice(NamedTuple):
    """The Dice that is predicted of a mask; see `sifa.quality_control`."""

    structures: dict[str, tuple[dict[str, Any], list[str]]]  # by name: `predicted_dice`, `low`, `high`; and flags
    doubts: list[str]  # clauses about the prediction for this scan
    remarks: list[str]  # clauses about the predictions for all scans


def prediction_clause(figures: Mapping[str, Any]) -> str:
    """Returns `predicted_dice`, `low` and `high` of a structure as a clause."""
    return "predicted Dice {predicted_dice:.2f} ({low:.2f} to {high:.2f})".format(**figures)


@dataclass
class SegmentedScan:
    """A segmented scan, in its own storage order."""

    image: Path  # the NIfTI file or the folder of the DICOM series
    mask: Path  # file of the mask
    volume: np.ndarray  # (X, Y, Z) intensities
    labels: np.ndarray  # (X, Y, Z) uint8: classes, whatever values the mask's file holds
    affine: np.ndarray  # of both, to RAS in mm
    window: tuple[float, float]  # intensities that the network sees as -1 and 1
    quality: dict[str, dict[str, Any]]  # by structure; see `sifa.inference.quality.measure`
    files: list[str] = field(default_factory=list)  # of a DICOM series
    uncertainty: np.ndarray | None = None  # (X, Y, Z) uint8; see `Segmentation`
    probabilities: np.ndarray | None = None  # (classes, X, Y, Z) uint8; see `sifa.inference.probability_volume`
