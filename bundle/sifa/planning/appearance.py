"""Rules for what makes the domains alike: histogram matching, random appearance and the field of view of scans."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.fingerprint.modality import is_in_hu
from sifa.fingerprint.statistics import BRIGHT
from sifa.transforms.intensity import NO_AIR

CONTRAST = 0.1  # share of bright tissue in CT beyond which structures themselves are full of contrast medium
SAMPLED_ALIKE = 1.5  # ratio of voxel sizes up to which scans of both domains count as sampled alike
LONGER = 1.1  # ratio of the lengths of scans beyond which target slices are drawn from a part


def matched_ranges(fingerprint: Fingerprint) -> dict[str, list[float]] | None:
    """Returns the ranges of tissue for histogram matching, or None where intensities should not be matched.

    Matching needs a target in HU, where soft tissue lies below 200 HU: all of the source's tissue is mapped to it. It
    is off where more than a tenth of the tissue is brighter, as on contrast-enhanced CT of the heart: the brightest
    structures would be outside the range.

    Args:
        fingerprint: with statistics.
    """
    statistics = fingerprint.statistics
    if statistics is None or not is_in_hu(fingerprint.target.modality) or is_in_hu(fingerprint.source.modality):
        return None
    if fingerprint.target.intensity["mode"] != "window" or statistics.target.bright_share > CONTRAST:
        return None
    lower, upper = fingerprint.target.intensity["lower"], fingerprint.target.intensity["upper"]
    brightest = 2 * (BRIGHT - lower) / (upper - lower) - 1
    if brightest <= 0:  # soft tissue is less than half of the window
        return None
    return {"source": [NO_AIR, 1], "target": [NO_AIR, min(1.0, math.ceil(round(100 * brightest, 6)) / 100)]}


def coarser_ratio(source: Sequence[float], target: Sequence[float]) -> float:
    """Returns the largest ratio between the voxel sizes of two domains along one axis."""
    return max(max(one, other) / min(one, other) for one, other in zip(source, target, strict=True))


def wants_random_appearance(source: Sequence[float], target: Sequence[float]) -> bool:
    """Returns whether source images of random appearance should join the segmentation loss.

    They do where the scans of both domains are sampled differently, such as thick slices against thin ones: the
    translation then has to bridge sharpness and noise as well as contrast, and E should not rely on it alone.

    Args:
        source: voxel sizes in mm along rows, columns and slices, medians.
        target: the same of target scans.
    """
    return coarser_ratio(source, target) > SAMPLED_ALIKE


def wants_matched_field(source_length: float, target_length: float) -> bool:
    """Returns whether target slices should be drawn from a part of a scan as long as the source scans."""
    return target_length > LONGER * source_length
