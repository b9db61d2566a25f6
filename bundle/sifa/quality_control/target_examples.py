"""Slices of the target scans that a model was trained on, which imitated scans are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from tqdm import tqdm

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.input_checks import check_scan
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.io.scan_reader import load_image
from sifa.quality_control.signal_meter import SLICES
from sifa.utils.errors import InputError, first_line, innermost


def sample_target(
    items: Sequence[Mapping[str, str]], fingerprint: Fingerprint, inferer: SliceSegmenter
) -> list[torch.Tensor]:
    """Returns slices (N, C, H, W) of each target scan as the network sees them in inference.

    Raises:
        InputError: when a scan cannot be read, or could not be segmented either.
    """
    scans = tqdm(items, desc="target scans", unit="scan", leave=False, disable=None)
    return [_sample(item["image"], fingerprint, inferer) for item in scans]


def _sample(path: str, fingerprint: Fingerprint, inferer: SliceSegmenter) -> torch.Tensor:
    try:
        image = load_image(path)
        check_scan(image.numpy()[None], np.asarray(image.affine, dtype=float), fingerprint)
        slices = inferer.sample_slices(image[None], SLICES, "cpu")
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except Exception as error:
        raise InputError(f"{path}: it cannot be read ({first_line(innermost(error))}): replace it.") from error
    if not len(slices):
        raise InputError(f"{path}: it shows nothing but air: replace it.")
    return slices
