"""Prepared source volumes as scans of the target, which the inferer segments."""

from __future__ import annotations

from copy import copy

import nibabel as nib
import torch
from monai.data import MetaTensor

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.quality_control.imitation import Imitation
from sifa.transforms.padding import without_marks
from sifa.transforms.slices import affine_of


def along_axes(inferer: SliceSegmenter, image: torch.Tensor) -> SliceSegmenter:
    """Returns an inferer that takes the axes of a prepared volume (C, H, W, D) for rows, columns and slices.

    Prepared volumes have been turned already. Their affine need not lead to the same turn again, since pixels have
    other sizes than the scan's voxels.
    """
    turned = copy(inferer)
    turned.orientation = "".join(nib.aff2axcodes(affine_of(image)))
    return turned


def as_scan(image: torch.Tensor, imitation: Imitation, fingerprint: Fingerprint) -> MetaTensor:
    """Returns a prepared source volume (C, H, W, D), as the imitation acquires it, in the target's intensities."""
    slices = without_marks(torch.as_tensor(image).as_subclass(torch.Tensor).movedim(-1, 0).float())
    volume = imitation.acquire(slices).movedim(0, -1)
    rule = fingerprint.target.intensity
    lower, upper = (float(rule["lower"]), float(rule["upper"])) if rule["mode"] == "window" else (-1.0, 1.0)
    return MetaTensor(lower + (volume + 1) / 2 * (upper - lower), affine=torch.as_tensor(affine_of(image)))
