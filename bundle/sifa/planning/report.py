"""What the log of a training says about its plan: settings that differ from what the data call for, and poor fits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.planning.estimate import GIB, networks_bytes, slices_bytes
from sifa.planning.plan import Setting, View, plan_appearance, plan_epochs, plan_slices, view_of, wanted_pixels
from sifa.planning.poor_fits import poor_fits
from sifa.planning.schedule import MEMORY
from sifa.planning.slices import ENOUGH, Pixels, latents_across
from sifa.utils.distributed import is_main_process
from sifa.utils.memory import available_memory

logger = logging.getLogger(__name__)

CLOSE = 1.15  # ratio of two extents up to which they count as the same


def report_plan(
    fingerprint: Fingerprint,
    settings: Mapping[str, Any],
    device: str | torch.device,
    adapts: bool = True,
    cache_rate: float = 1.0,
) -> None:
    """Logs where the settings of a training differ from what its data call for, and warns of poor fits.

    A fingerprint without statistics, of an earlier version, is not compared. Nothing here stops a training.

    Args:
        fingerprint: of the training.
        settings: those that a plan decides.
        device: that training computes on.
        adapts: whether target images are trained on.
        cache_rate: share of the volumes that are held in memory.
    """
    if not is_main_process() or fingerprint.statistics is None or not fingerprint.statistics.structures:
        return
    view = view_of(fingerprint, adapts)
    pixels = Pixels(fingerprint.slice_size, fingerprint.spacing[0])
    lines = differences(view, pixels, settings, fingerprint)
    for name, value, line in lines:
        logger.info("plan: %s is %s, the data call for %s: %s", name, value, line.value, line.reason)
    if not lines:
        logger.info("plan: slices, epochs and matching are what the data call for")
    for warning in poor_fits(view, pixels, settings, fingerprint):
        logger.warning("%s", warning)
    warning = memory_warning(view, pixels, settings, fingerprint.network.width, device, cache_rate, available_memory())
    if warning:
        logger.warning("%s", warning)


def differences(
    view: View, pixels: Pixels, settings: Mapping[str, Any], fingerprint: Fingerprint
) -> list[tuple[str, Any, Setting]]:
    """Returns the name and value of each setting that differs from the plan's, and the plan's line.

    Slices that show the field with smaller pixels than needed do not differ: there was time for them.
    """
    wanted = wanted_pixels(view)
    size, spacing = plan_slices(view, wanted)
    found: list[tuple[str, Any, Setting]] = []
    ratios = [max(one / other, other / one) for one, other in zip(pixels.extent, wanted.extent, strict=True)]
    is_coarse = latents_across(view.structures, pixels.spacing)[0] < ENOUGH and wanted.spacing < pixels.spacing
    if is_coarse or max(ratios) > CLOSE:
        if pixels.size != wanted.size:
            found.append(("slice_size", list(pixels.size), size))
        if pixels.spacing != wanted.spacing:
            found.append(("pixel_spacing", pixels.spacing, spacing))
    matched = bool(settings.get("match_field_of_view"))
    epochs = plan_epochs(view, settings["epochs"], settings["iterations_per_epoch"], settings["batch_size"], matched)
    if epochs.value != settings["epochs"]:
        found.append(("epochs", settings["epochs"], epochs))
    for line in plan_appearance(view, fingerprint):
        value = settings.get(line.name)
        if line.name in settings and bool(value) != bool(line.value) and line.name != "match_field_of_view":
            found.append((line.name, value, line))
    return found


def memory_warning(
    view: View,
    pixels: Pixels,
    settings: Mapping[str, Any],
    width: float,
    device: str | torch.device,
    cache_rate: float,
    free: int | None,
) -> str:
    """Returns a warning when slices and, on a CPU, networks are expected to need more memory than is free.

    Args:
        view: what the data show.
        pixels: the slices.
        settings: those that a plan decides.
        width: factor on the channels of the networks.
        device: that training computes on.
        cache_rate: share of the slices that are held in memory.
        free: bytes; None: unknown.
    """
    held = cache_rate * slices_bytes(view, pixels)
    on_cpu = torch.device(device).type == "cpu"
    needed = held + (networks_bytes(width, pixels, settings["batch_size"]) if on_cpu else 0)
    if free is None or needed <= MEMORY * free:
        return ""
    remedy = "give a cache_dir and a cache_rate below 1" if held > needed / 2 else "give a smaller batch_size"
    return (
        f"training is expected to take {needed / GIB:.1f} GiB of memory, {held / GIB:.1f} of it for slices, and "
        f"{free / GIB:.1f} GiB are free: {remedy}."
    )
