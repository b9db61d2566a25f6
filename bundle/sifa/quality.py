"""Figures and flags that tell which masks to look at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sifa.inferer import Segmentation

LOW_CONFIDENCE = 0.6  # mean of the largest class probability
MANY_COMPONENTS = 5
DROPPED = 0.05  # share of a structure, beyond the longest stretch of slices, that is worth a word
SLICES = 8  # whose pieces are labeled at once: int32, which of a whole scan is as large as the scan
MARGIN = 1.5  # a volume is odd when it is this many times smaller or larger than any in training


def measure(segmentation: Segmentation, voxel_ml: float, fingerprint: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Measures each structure of a mask.

    Args:
        segmentation: what the network said of the scan.
        voxel_ml: volume of a voxel in ml.
        fingerprint: with `labels` and, where training measured them, `structures` (volumes in ml).

    Returns:
        For each structure: `volume_ml`, `components` (pieces, 26-connected), `confidence` (mean of the largest
        probability), `entropy` (mean, in nats) and `flags`, a list of clauses.
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
        return {"volume_ml": 0.0, "components": 0, "confidence": None, "entropy": None, "flags": ["empty"]}
    voxels, components = count_voxels_and_pieces(mask[box], value)
    volume = voxels * voxel_ml
    pixels = max(float(segmentation.pixels[value]), 1.0)
    confidence = float(segmentation.confidence[value]) / pixels
    flags = []
    if any(part.start == 0 or part.stop == size for part, size in zip(box, mask.shape, strict=True)):
        flags.append("touches the border of the field of view")
    dropped = float(segmentation.dropped[value])
    if dropped > DROPPED * (pixels + dropped):
        flags.append("parts too far from the other structures were dropped")
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


def count_voxels_and_pieces(mask: np.ndarray, value: int) -> tuple[int, int]:
    """Counts the voxels of a structure and its pieces (26-connected), a few slices at a time.

    Neighboring slabs share a slice. A piece of one slab and a piece of the next that have a voxel of it in common are
    one, so pieces are the connected parts of the graph in which these are joined.
    """
    voxels = nodes = 0
    joined = [np.zeros((2, 0), dtype=np.int64)]
    shared = np.zeros(mask.shape[1:], dtype=np.int64)
    for start in range(0, len(mask), SLICES):
        first = max(0, start - 1)
        structure = mask[first : start + SLICES] == value
        voxels += int(np.count_nonzero(structure[start - first :]))
        labels, count = ndimage.label(structure, np.ones((3, 3, 3)))
        if start:
            same = labels[0] > 0
            joined.append(np.unique(np.stack([shared[same] - 1, labels[0][same] + nodes - 1]), axis=1))
        shared = labels[-1].astype(np.int64) + nodes
        nodes += count
    edges = np.concatenate(joined, axis=1)
    graph = coo_array((np.ones(edges.shape[1]), (edges[0], edges[1])), shape=(nodes, nodes))
    return voxels, int(connected_components(graph, directed=False)[0]) if nodes else 0
