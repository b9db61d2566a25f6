"""Slices of the target scans that a model was trained on, which imitated scans are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from tqdm import tqdm

from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.io.scan_reader import load_image
from sifa.quality_control.signal_meter import SLICES
from sifa.utils.errors import InputError, first_line, innermost


def sample_target(
    items: Sequence[Mapping[str, str]], inferer: SliceSegmenter, device: str | torch.device
) -> list[torch.Tensor]:
    """Returns slices (N, C, H, W) of each target scan as the network sees them in inference.

    Raises:
        InputError: when a scan cannot be read or is empty.
    """
    return [
        _sample(item["image"], inferer, device) for item in tqdm(items, desc="target scans", leave=False, disable=None)
    ]


def _sample(path: str, inferer: SliceSegmenter, device: str | torch.device) -> torch.Tensor:
    try:
        image = load_image(path)
    except Exception as error:
        raise InputError(f"{path}: it cannot be read ({first_line(innermost(error))}): replace it.") from error
    slices = inferer.sample_slices(image[None] if image.ndim == 3 else image, SLICES, device)
    if not len(slices):
        raise InputError(f"{path}: it shows nothing but air: replace it.")
    return slices
