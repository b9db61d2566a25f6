"""Estimates of a training's minutes and memory: from a trial, or from a formula where there was none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sifa.planning.plan import View
from sifa.planning.slices import Pixels
from sifa.planning.trial import Trial

GIB = 2**30  # bytes
FLOAT = 4  # bytes of an intensity; a label takes 1
FIELD_STEP = 10.0  # mm between the slices that `sifa.adaptation.FieldOfView` looks at after each epoch
BASE = 1.2 * GIB  # bytes of a process before its networks: Python, torch and MONAI
PER_PIXEL = (
    15_000  # bytes of networks of full width for each pixel of a batch: docs/training.md, four against one slice
)


@dataclass(frozen=True)
class Estimate:
    """What a training takes, without reading and preparing its volumes, and without validation."""

    minutes: float
    bytes_on_device: float  # networks, their gradients, and on a CPU the slices as well
    bytes_of_slices: int  # in the memory of the machine


def slices_bytes(view: View, pixels: Pixels) -> int:
    """Returns the bytes of all slices as training holds them."""
    size = pixels.size[0] * pixels.size[1]
    return size * (view.source_slices * (FLOAT + 1) + view.target_slices * FLOAT)


def networks_bytes(width: float, pixels: Pixels, batch: int) -> float:
    """Returns about how many bytes the networks of SIFA and a process take on a CPU.

    Args:
        width: factor on all channel numbers.
        pixels: the slices.
        batch: slices of each domain.
    """
    return BASE + PER_PIXEL * width * batch * pixels.size[0] * pixels.size[1]


def estimate(
    trial: Trial, view: View, pixels: Pixels, settings: Mapping[str, Any], workers: int, on_gpu: bool
) -> Estimate:
    """Returns what a training takes by its trial.

    Args:
        trial: with slices of `pixels` and the batch of the training.
        view: what the data show.
        pixels: the slices.
        settings: `epochs`, `iterations_per_epoch`, `batch_size` and, where the config has them, `statistics_slices` and
            `match_field_of_view`.
        workers: processes that draw slices.
        on_gpu: whether the device is a GPU, whose memory does not hold the slices.
    """
    matched = bool(settings.get("match_field_of_view"))
    per_epoch = settings["iterations_per_epoch"]
    if per_epoch is None:
        per_epoch = max(view.source_slices, view.target_slices) // settings["batch_size"]
    data = trial.data_seconds / workers if workers else trial.data_seconds
    iteration = max(trial.seconds, data) if workers else trial.seconds + data
    looked_at = view.target_slices * min(1.0, view.target_spacing[2] / FIELD_STEP) if matched else 0.0
    passes = looked_at + 3 * settings.get("statistics_slices", 0)  # statistics, and a score that segments twice
    seconds = settings["epochs"] * (per_epoch * iteration + passes * trial.forward_seconds)
    held = slices_bytes(view, pixels)
    return Estimate(seconds / 60, trial.peak + (0 if on_gpu else held), held)
