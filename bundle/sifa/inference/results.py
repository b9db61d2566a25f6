"""A scan with its mask, for what is made beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class SegmentedScan:
    """A scan in its own storage order, and what was found in it."""

    image: Path  # the NIfTI file or the folder of the DICOM series
    mask: Path  # where the mask lies
    volume: np.ndarray  # (X, Y, Z) intensities
    labels: np.ndarray  # (X, Y, Z) uint8
    affine: np.ndarray  # of both, to RAS in mm
    window: tuple[float, float]  # intensities that the network sees as -1 and 1
    quality: dict[str, dict[str, Any]]  # by structure; see `sifa.inference.quality.measure`
    files: list[str] = field(default_factory=list)  # of a DICOM series
    uncertainty: np.ndarray | None = None  # (X, Y, Z) uint8; see `sifa.inference.slice_segmenter.Segmentation`
