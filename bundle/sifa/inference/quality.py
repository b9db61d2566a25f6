"""Figures and flags of a mask, which show which masks to review first."""

from __future__ import annotations

from typing import Any

import numpy as np

from sifa.fingerprint.fingerprint import Fingerprint, VolumeRange
from sifa.inference.results import Segmentation
from sifa.postprocessing.connected_components import Structure, find_structures

LOW_CONFIDENCE = 0.6  # mean of the largest class probability
MANY_COMPONENTS = 5
DROPPED = 0.05  # share of a structure's voxels in removed components that is flagged
MISFITS = "components far from the other structures were removed"
MARGIN = 1.5  # a volume this many times smaller or larger than any in training is flagged


def measure(segmentation: Segmentation, voxel_ml: float, fingerprint: Fingerprint) -> dict[str, dict[str, Any]]:
    """Measures each structure of a mask.

    Args:
        segmentation: what the network predicted.
        voxel_ml: volume of a voxel in ml.
        fingerprint: its labels, and the volumes of structures in training.

    Returns:
        For each structure: `volume_ml`, `components` (number of connected components, 26-connected), `confidence`
        (mean of the largest probability where the network found the structure, removed components included), `entropy`
        (likewise, as a share of the greatest possible entropy, from 0 to 1) and `flags`, a list of clauses.
    """
    mask = segmentation.labels.numpy()
    structures, known = fingerprint.structure_names, fingerprint.structures
    found = find_structures(mask, structures, np.eye(4))
    return {
        name: _measure_one(found.get(value), mask.shape, value, segmentation, voxel_ml, known.get(name))
        for value, name in structures.items()
    }


def _measure_one(
    structure: Structure | None,
    shape: tuple[int, ...],
    value: int,
    segmentation: Segmentation,
    voxel_ml: float,
    known: VolumeRange | None,
) -> dict[str, Any]:
    dropped = int(segmentation.dropped[value])
    if structure is None:
        flags = ["empty", MISFITS] if dropped else ["empty"]
        return {"volume_ml": 0.0, "components": 0, "confidence": None, "entropy": None, "flags": flags}
    voxels, components = int(structure.components.voxels.sum()), len(structure.components.voxels)
    volume = voxels * voxel_ml
    pixels = max(float(segmentation.pixels[value]), 1.0)
    confidence = float(segmentation.confidence[value]) / pixels
    flags = []
    if any(side.start == 0 or side.stop == size for side, size in zip(structure.box, shape, strict=True)):
        flags.append("touches the border of the field of view")
    if dropped > DROPPED * (voxels + dropped):
        flags.append(MISFITS)
    if components >= MANY_COMPONENTS:
        flags.append(f"{components} connected components")
    if confidence < LOW_CONFIDENCE:
        flags.append(f"low confidence ({confidence:.2f})")
    if known is not None and not known.min / MARGIN <= volume <= known.max * MARGIN:
        flags.append(f"volume outside the training's range of {known.min:.0f} to {known.max:.0f} ml")
    return {
        "volume_ml": round(volume, 3),
        "components": components,
        "confidence": round(confidence, 4),
        "entropy": round(float(segmentation.entropy[value]) / pixels, 4),
        "flags": flags,
    }
