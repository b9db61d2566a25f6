"""Figures and flags that tell which masks to look at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from sifa.inferer import Segmentation
from sifa.pieces import find_pieces

LOW_CONFIDENCE = 0.6  # mean of the largest class probability
MANY_COMPONENTS = 5
DROPPED = 0.05  # share of a structure, in pieces that do not fit the others, that is worth a word
MISFITS = "pieces that do not fit the other structures were dropped"
MARGIN = 1.5  # a volume is odd when it is this many times smaller or larger than any in training


def measure(segmentation: Segmentation, voxel_ml: float, fingerprint: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Measures each structure of a mask.

    Args:
        segmentation: what the network said of the scan.
        voxel_ml: volume of a voxel in ml.
        fingerprint: with `labels` and, where training measured them, `structures` (volumes in ml).

    Returns:
        For each structure: `volume_ml`, `components` (pieces, 26-connected), `confidence` (mean of the largest
        probability, where the network found the structure, in dropped pieces too), `entropy` (likewise, in nats) and
        `flags`, a list of clauses.
    """
    mask = segmentation.labels.numpy()
    boxes = ndimage.find_objects(mask, max_label=len(fingerprint["labels"]) - 1)
    known = fingerprint.get("structures", {})
    return {
        name: _measure_one(mask, boxes[int(value) - 1], int(value), segmentation, voxel_ml, known.get(name))
        for value, name in fingerprint["labels"].items()
        if value != "0"
    }


def _measure_one(
    mask: np.ndarray,
    box: tuple[slice, ...] | None,
    value: int,
    segmentation: Segmentation,
    voxel_ml: float,
    known: Mapping[str, float] | None,
) -> dict[str, Any]:
    if box is None:
        flags = ["empty", MISFITS] if segmentation.dropped[value] else ["empty"]
        return {"volume_ml": 0.0, "components": 0, "confidence": None, "entropy": None, "flags": flags}
    pieces = find_pieces(mask[box], value, np.eye(4)).voxels
    voxels, components = int(pieces.sum()), len(pieces)
    volume = voxels * voxel_ml
    pixels = max(float(segmentation.pixels[value]), 1.0)
    confidence = float(segmentation.confidence[value]) / pixels
    flags = []
    if any(part.start == 0 or part.stop == size for part, size in zip(box, mask.shape, strict=True)):
        flags.append("touches the border of the field of view")
    dropped = int(segmentation.dropped[value])
    if dropped > DROPPED * (voxels + dropped):
        flags.append(MISFITS)
    if components >= MANY_COMPONENTS:
        flags.append(f"in {components} pieces")
    if confidence < LOW_CONFIDENCE:
        flags.append(f"low confidence ({confidence:.2f})")
    if known is not None and not known["min"] / MARGIN <= volume <= known["max"] * MARGIN:
        flags.append(f"volume outside the training's range of {known['min']:.0f} to {known['max']:.0f} ml")
    return {
        "volume_ml": round(volume, 3),
        "components": components,
        "confidence": round(confidence, 4),
        "entropy": round(float(segmentation.entropy[value]) / pixels, 4),
        "flags": flags,
    }
