"""From the intensities of a scan to its mask and what is measured in it: the same for commands and for Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference import quality
from sifa.inference.input_checks import Doubts, intensity_unit
from sifa.inference.results import PredictedDice, Segmentation
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.transforms.label_values import is_identity, map_labels

Postprocessing = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Predictor = Callable[[MetaTensor, Segmentation, str | torch.device], PredictedDice]


class MeasuredMask(NamedTuple):
    """The mask of a scan."""

    mask: torch.Tensor  # (X, Y, Z), of the fingerprint's `mask_dtype`, with its `mask_values`
    segmentation: Segmentation  # its labels are the classes in the mask
    quality: dict[str, dict[str, Any]]  # by structure; see `sifa.inference.quality.measure`
    doubts: list[str]  # clauses about the Dice that is predicted for this scan
    remarks: list[str]  # and for all scans


def segment_volume(
    image: MetaTensor,
    doubts: Doubts,
    network: nn.Module,
    fingerprint: Fingerprint,
    inferer: SliceSegmenter,
    postprocessing: Postprocessing,
    device: str | torch.device,
    probabilities: np.ndarray | None = None,
    predictor: Predictor | None = None,
) -> MeasuredMask:
    """Segments a scan and measures its structures.

    Args:
        image: intensities (C, X, Y, Z) with an affine, in the scan's own grid.
        doubts: what `check_scan` returned.
        network: C(E(.)), in evaluation mode, on `device`.
        fingerprint: what it was trained on.
        inferer: segments the scan.
        postprocessing: makes a mask of `pred`, classes (1, X, Y, Z): cleaned, and with the fingerprint's `mask_values`.
        device: where the network runs.
        probabilities: gets the class probabilities; see `SliceSegmenter.segment`.
        predictor: predicts the Dice of structures, see `sifa.quality_control`; None: no prediction.
    """
    affine, volume = np.asarray(image.affine, dtype=float), image.numpy(force=True)
    unit = "arbitrary" if doubts.unit else intensity_unit(fingerprint.target)
    segmentation = inferer.segment(image, network, device, probabilities)
    predicted = PredictedDice({}, [], []) if predictor is None else predictor(image, segmentation, device)
    cleaned = postprocessing({"image": image, "pred": segmentation.labels[None]})["pred"]
    mask = torch.as_tensor(cleaned)[0].as_subclass(torch.Tensor).to(getattr(torch, fingerprint.mask_dtype))
    segmentation.labels = _classes_of(mask, fingerprint.mask_values)
    measured = quality.measure(segmentation, volume[0], affine, unit, fingerprint)
    for name, (figures, flags) in predicted.structures.items():
        measured[name].update(figures)
        measured[name]["flags"] += flags
    return MeasuredMask(mask, segmentation, measured, predicted.doubts, predicted.remarks)


def _classes_of(mask: torch.Tensor, values: Mapping[int, int]) -> torch.Tensor:
    """Returns the classes (X, Y, Z), uint8, of a mask.

    Args:
        mask: (X, Y, Z).
        values: the value of each class in the mask.
    """
    classes = {value: index for index, value in values.items()}
    return mask if is_identity(classes) else torch.from_numpy(map_labels(mask.numpy(), classes)).to(torch.uint8)
