"""Figures and flags of a mask, which show which masks to review first."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np

from sifa.fingerprint.fingerprint import Fingerprint, VolumeRange
from sifa.inference.measurements import measure_voxels
from sifa.inference.results import Segmentation
from sifa.postprocessing.connected_components import Structure, find_structures

LOW_CONFIDENCE = 0.6  # mean of the largest class probability
MANY_COMPONENTS = 5
DROPPED = 0.05  # share of a structure's voxels in removed components that is flagged
MISFITS = "components far from the other structures were removed"
MARGIN = 1.5  # a volume this many times smaller or larger than any in training is flagged


def measure(
    segmentation: Segmentation, volume: np.ndarray, affine: np.ndarray, unit: str, fingerprint: Fingerprint
) -> dict[str, dict[str, Any]]:
    """Measures each structure of a mask.

    Args:
        segmentation: what the network predicted.
        volume: intensities of the scan, (X, Y, Z).
        affine: of its grid, to RAS in mm.
        unit: of the intensities.
        fingerprint: its labels, and the volumes of structures in training.

    Returns:
        For each structure: `value` (in the mask), `volume_ml`, `mean` and `sd` of the scan's intensities in it, `unit`
        of both, `extent_mm` (left-right, anterior-posterior, superior-inferior), `touches_border`
        (of the scan), `components` (number of connected components, 26-connected), `confidence` (mean of the largest
        probability where the network found the structure, removed components included), `entropy` (likewise, as a share
        of the greatest possible entropy, from 0 to 1) and `flags`, a list of clauses. What an empty structure does not
        have is None.
    """
    mask = segmentation.labels.numpy()
    structures, known = fingerprint.structure_names, fingerprint.structures
    found = find_structures(mask, structures, np.eye(4))
    measured = {}
    for value, name in structures.items():
        structure, dropped = found.get(value), int(segmentation.dropped[value])
        if structure is None:
            measured[name] = _empty(fingerprint.mask_values[value], unit, dropped)
            continue
        voxels = measure_voxels(volume[structure.box], mask[structure.box], value, affine)
        measured[name] = {
            "value": fingerprint.mask_values[value],
            "volume_ml": round(_volume_ml(structure, affine), 3),
            "mean": _six_digits(voxels.mean),
            "sd": _six_digits(voxels.sd),
            "unit": unit,
            "extent_mm": [round(length, 1) for length in voxels.extent_mm],
            **_measure_network(structure, mask.shape, value, segmentation, affine, known.get(name)),
        }
    return measured


def _empty(value: int, unit: str, dropped: int) -> dict[str, Any]:
    """Returns what is said of a structure without voxels, of which `dropped` were removed."""
    return {
        "value": value,
        "volume_ml": 0.0,
        "mean": None,
        "sd": None,
        "unit": unit,
        "extent_mm": None,
        "touches_border": False,
        "components": 0,
        "confidence": None,
        "entropy": None,
        "flags": ["empty", MISFITS] if dropped else ["empty"],
    }


def _volume_ml(structure: Structure, affine: np.ndarray) -> float:
    return int(structure.components.voxels.sum()) * float(np.prod(nib.affines.voxel_sizes(affine))) / 1000


def _six_digits(number: float) -> float:
    return float(f"{number:.6g}")


def _measure_network(
    structure: Structure,
    shape: tuple[int, ...],
    value: int,
    segmentation: Segmentation,
    affine: np.ndarray,
    known: VolumeRange | None,
) -> dict[str, Any]:
    """Returns the figures and flags by which the mask of a structure is judged."""
    dropped = int(segmentation.dropped[value])
    voxels, components = int(structure.components.voxels.sum()), len(structure.components.voxels)
    volume = _volume_ml(structure, affine)
    pixels = max(float(segmentation.pixels[value]), 1.0)
    confidence = float(segmentation.confidence[value]) / pixels
    touches = any(side.start == 0 or side.stop == size for side, size in zip(structure.box, shape, strict=True))
    flags = []
    if touches:
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
        "touches_border": touches,
        "components": components,
        "confidence": round(confidence, 4),
        "entropy": round(float(segmentation.entropy[value]) / pixels, 4),
        "flags": flags,
    }
