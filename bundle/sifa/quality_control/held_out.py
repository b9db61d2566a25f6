"""Checks, before any long work, that a model can be calibrated on the held-out source scans of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from sifa.data.dataset_json import DatasetDescription
from sifa.data.slice_cache import Preprocessing
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.utils.errors import InputError, find_input_error, first_line, innermost

LEAST_SCANS = 8


def require_scans(dataset: DatasetDescription, fingerprint: Fingerprint) -> None:
    """Refuses a data set with too few held-out source scans, without target scans, or unlike the model's.

    Structures and modalities have to be the model's.

    Raises:
        InputError: when it is refused.
    """
    count = len(dataset.source_validation)
    if count < LEAST_SCANS:
        raise InputError(
            f"{dataset.path}: source.validation lists {count} scans: calibrating needs at least {LEAST_SCANS} labeled "
            "source scans that were not trained on; list more there and train again."
        )
    if not dataset.target_images:
        raise InputError(
            f"{dataset.path}: target.training lists no scans: calibrating compares held-out scans with them; list the "
            "unlabeled target scans there."
        )
    pairs = {
        "structures": (list(dataset.labels.values()), list(fingerprint.labels.values())),
        "source modality": (dataset.source_modality, fingerprint.source.modality),
        "target modality": (dataset.target_modality, fingerprint.target.modality),
    }
    for name, (found, known) in pairs.items():
        if found != known:
            raise InputError(
                f"{dataset.path}: its {name} ({found}) is not the model's ({known}): give the data set that the model "
                "was trained on."
            )


class HeldOut(NamedTuple):
    """A held-out source scan, prepared as in training."""

    image: torch.Tensor  # (C, H, W, D) in [-1, 1], with its affine
    label: np.ndarray  # (H, W, D), classes, uint8


def prepare_held_out(items: Sequence[Mapping[str, str]], preprocessing: Preprocessing) -> list[HeldOut]:
    """Prepares all held-out scans, so that none fails after long work.

    Raises:
        InputError: when a scan or its label cannot be read, the scan is empty or has values that are not finite, or
            the label shows no structure.
    """
    scans = tqdm(items, desc="held-out scans", unit="scan", leave=False, disable=None)
    return [_prepare(item, preprocessing) for item in scans]


def _prepare(item: Mapping[str, str], preprocessing: Preprocessing) -> HeldOut:
    try:
        prepared = preprocessing(dict(item))
    except Exception as error:
        known = find_input_error(error)
        if known is not None:
            raise known from error
        raise InputError(
            f"{item['image']}: it or its label cannot be read ({first_line(innermost(error))}): replace it."
        ) from error
    image, label = np.asarray(prepared["image"]), np.rint(np.asarray(prepared["label"])[0]).astype(np.uint8)
    if not np.isfinite(image).all():
        raise InputError(f"{item['image']}: it has values that are not finite numbers: replace it.")
    if image.min() == image.max():
        raise InputError(f"{item['image']}: every voxel has the same value: it is empty; replace it.")
    if not label.any():
        raise InputError(f"{item['label']}: it shows no structure: replace it, or take it out of source.validation.")
    return HeldOut(prepared["image"], label)
