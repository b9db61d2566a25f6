"""A plan: the settings that follow from the training data, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.fingerprint.modality import is_in_hu
from sifa.planning.appearance import coarser_ratio, matched_ranges, wants_matched_field, wants_random_appearance
from sifa.planning.schedule import choose_epochs, drawn_slices
from sifa.planning.slices import (
    ENOUGH,
    Pixels,
    choose_field,
    latents_across,
    pixels_of,
    wanted_size,
    wanted_spacing,
)
from sifa.utils.errors import InputError


@dataclass(frozen=True)
class Setting:
    """One line of a plan."""

    name: str  # of the option
    value: Any
    reason: str


@dataclass(frozen=True)
class View:
    """What the training data show in the slices of a plane; triples are along rows, columns and slices."""

    plane: str
    source_spacing: tuple[float, float, float]  # mm, medians
    target_spacing: tuple[float, float, float]
    source_field: tuple[float, float, float]  # mm, medians
    target_field: tuple[float, float, float]
    source_body: tuple[float, float, float]  # mm around the middle of a scan, medians
    target_body: tuple[float, float, float]
    field: tuple[float, ...]  # mm along rows and columns that slices should show
    structures: Mapping[str, tuple[float, float, float]]  # mm, by name
    source_slices: int
    target_slices: int
    adapts: bool  # whether target images are trained on


def view_of(fingerprint: Fingerprint, adapts: bool) -> View:
    """Returns what the training data show in the slices of a fingerprint.

    Args:
        fingerprint: with statistics.
        adapts: whether target images are trained on.
    """
    statistics = fingerprint.statistics
    if statistics is None:
        raise InputError("the fingerprint has no statistics of its training data: compute it with this version.")
    source, target = fingerprint.source.training, fingerprint.target.training
    bodies = statistics.source.median_body, statistics.target.median_body
    return View(
        plane=fingerprint.slice_plane,
        source_spacing=source.median_spacing,
        target_spacing=target.median_spacing,
        source_field=source.median_field_of_view,
        target_field=target.median_field_of_view,
        source_body=bodies[0],
        target_body=bodies[1],
        field=choose_field(bodies[0][:2], bodies[1][:2] if adapts else None, statistics.label_extent[:2]),
        structures=statistics.structures,
        source_slices=statistics.source.voxels[2],
        target_slices=statistics.target.voxels[2] if adapts else 0,
        adapts=adapts,
    )


def wanted_pixels(view: View, latents: float = ENOUGH) -> Pixels:
    """Returns the slices that show the field and make the narrowest structure some latents wide."""
    spacing, _ = wanted_spacing(view.structures, latents)
    return pixels_of(view.field, wanted_size(view.field, spacing))


def plan_plane(view: View, reason: str) -> Setting:
    """Returns the line about the plane.

    Args:
        view: what the data show in it.
        reason: for the plane, see `sifa.planning.slice_plane`.
    """
    domains = (
        {"source": view.source_spacing, "target": view.target_spacing}
        if view.adapts
        else {"source": view.source_spacing}
    )
    voxels = " and ".join(f"{name} {' x '.join(f'{step:.3g}' for step in steps)}" for name, steps in domains.items())
    return Setting("slice_plane", view.plane, f"{reason}; median rows x columns x slices: {voxels} mm")


def plan_slices(view: View, pixels: Pixels, limit: str = "") -> list[Setting]:
    """Returns the lines about the size of slices and pixels.

    Args:
        view: what the data show.
        pixels: the slices.
        limit: what keeps them from being larger, for the reason.
    """
    latents, name = latents_across(view.structures, pixels.spacing)
    width = min(view.structures[name][:2])
    rows, columns = pixels.extent
    shows = " x ".join(f"{side:.0f}" for side in view.field)
    steps = [view.source_spacing, view.target_spacing] if view.adapts else [view.source_spacing]
    finest = " and ".join(f"{max(step[:2]):.3g}" for step in steps)
    return [
        Setting(
            "slice_size",
            list(pixels.size),
            f"{name}, the narrowest structure, {width:.0f} mm, is {latents:.1f} latents of {8 * pixels.spacing:.3g} mm "
            f"wide{limit}",
        ),
        Setting(
            "pixel_spacing",
            pixels.spacing,
            f"mm: {rows:.0f} x {columns:.0f} mm show the body of {shows} mm; scans have {finest} mm",
        ),
    ]


def plan_epochs(view: View, epochs: int, iterations: int | None, batch: int, matched: bool) -> Setting:
    """Returns the line about the number of epochs.

    Args:
        view: what the data show.
        epochs: of the config.
        iterations: of an epoch; None: as many as the slices fill.
        batch: slices of each domain in an iteration, of the config.
        matched: whether target slices are drawn from a part of each scan.
    """
    slices = drawn_slices(view.source_slices, view.target_slices, view.source_field[2], view.target_field[2], matched)
    domains = 2 if view.adapts else 1
    chosen = choose_epochs(epochs, iterations, batch, slices / domains)
    if iterations is None:
        return Setting("epochs", chosen, "as the config has it: an epoch is all slices of the larger domain")
    draws = chosen * iterations * domains * batch / slices
    of_target = f" and {slices - view.source_slices:.0f} of {view.target_slices} target" if view.adapts else ""
    return Setting(
        "epochs",
        chosen,
        f"of {iterations} iterations: {view.source_slices} source{of_target} slices are drawn {draws:.1f} times each",
    )


def plan_appearance(view: View, fingerprint: Fingerprint) -> list[Setting]:
    """Returns the lines about intensities, random appearance and the matched field of view; none without a target."""
    if not view.adapts:
        return []
    ranges = matched_ranges(fingerprint)
    ratio = coarser_ratio(view.source_spacing, view.target_spacing)
    appearance = wants_random_appearance(view.source_spacing, view.target_spacing)
    matched = wants_matched_field(view.source_field[2], view.target_field[2])
    lengths = f"target scans are {view.target_field[2]:.0f} mm long, source scans {view.source_field[2]:.0f} mm"
    alike = "differ" if appearance else "agree"
    return [
        Setting("match_intensity", ranges, _matching_reason(fingerprint, ranges is not None)),
        Setting("match_field_of_view", matched, f"{lengths}{'' if matched else ': all of a scan is drawn from'}"),
        Setting(
            "random_appearance_weight", int(appearance), f"voxels of the domains {alike}: by a factor of {ratio:.1f}"
        ),
    ]


def _matching_reason(fingerprint: Fingerprint, is_matched: bool) -> str:
    statistics = fingerprint.statistics
    if statistics is None or not is_in_hu(fingerprint.target.modality) or is_in_hu(fingerprint.source.modality):
        return "it needs a target in HU and a source in arbitrary units"
    share = f"{100 * statistics.target.bright_share:.1f} % of the target's tissue is above 200 HU"
    lower, upper = fingerprint.target.intensity["lower"], fingerprint.target.intensity["upper"]
    if is_matched:
        return f"in [-1, 1]: no air, no bone or contrast medium (200 HU in a window of {lower:g} to {upper:g}); {share}"
    return f"{share}: structures full of contrast medium, which matching would leave out"
