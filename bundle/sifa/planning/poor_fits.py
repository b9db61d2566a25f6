"""Poor fits between the settings of a training and its data, by name. They are rare, and they never stop a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.fingerprint.modality import is_in_hu
from sifa.planning.appearance import CONTRAST, matched_ranges
from sifa.planning.plan import View
from sifa.planning.slices import REDUCTION, Pixels, latents_across

EMPTY = 2.0  # ratio of slices to the field of the data from which most of a slice is empty
DIFFERENT = 1.5  # ratio of the bodies of both domains beyond which slices cannot suit both
LONGER = 1.25  # ratio of the lengths of scans beyond which slices without a counterpart mislead


def poor_fits(view: View, pixels: Pixels, settings: Mapping[str, Any], fingerprint: Fingerprint) -> list[str]:
    """Returns a sentence for each setting that does not suit the data.

    Args:
        view: what the data show in the plane of the training.
        pixels: the slices of the training.
        settings: those that a plan decides.
        fingerprint: of the data.
    """
    found = [
        _structures(view, pixels),
        _empty_slices(view, pixels),
        *(
            [_bodies(view, pixels), _lengths(view, settings), _intensities(settings, fingerprint)]
            if view.adapts
            else []
        ),
    ]
    return [sentence for sentence in found if sentence]


def _structures(view: View, pixels: Pixels) -> str:
    latents, name = latents_across(view.structures, pixels.spacing)
    if latents >= 1:
        return ""
    return (
        f"{name}, {min(view.structures[name][:2]):.0f} mm wide, is narrower than a latent of E, {REDUCTION} pixels of "
        f"{pixels.spacing:.3g} mm: give a larger slice_size or a smaller pixel_spacing."
    )


def _empty_slices(view: View, pixels: Pixels) -> str:
    rows, columns = (extent / field for extent, field in zip(pixels.extent, view.field, strict=True))
    if min(rows, columns) <= EMPTY:
        return ""
    shown, needed = (" x ".join(f"{side:.0f}" for side in sides) for sides in (pixels.extent, view.field))
    return f"slices show {shown} mm, the body takes {needed} mm of them: give a smaller pixel_spacing."


def _bodies(view: View, pixels: Pixels) -> str:
    for side, source, target, shown in zip(
        ("rows", "columns"), view.source_body[:2], view.target_body[:2], pixels.extent, strict=True
    ):
        small, large = sorted((source, target))
        if large > DIFFERENT * small and shown > DIFFERENT * small:
            return (
                f"the body is {source:.0f} mm wide along {side} of source scans and {target:.0f} mm of target scans, "
                f"and slices show {shown:.0f} mm: the air around the smaller one tells the domains apart; give a "
                "pixel_spacing that shows the smaller one, or crop the larger scans."
            )
    return ""


def _lengths(view: View, settings: Mapping[str, Any]) -> str:
    source, target = view.source_field[2], view.target_field[2]
    if target <= LONGER * source or settings.get("match_field_of_view"):
        return ""
    remedy = "set match_field_of_view" if "match_field_of_view" in settings else "add recommended.yaml"
    return (
        f"target scans are {target:.0f} mm long and source scans {source:.0f} mm, and training draws slices that have "
        f"no counterpart: {remedy}, or crop the target scans."
    )


def _intensities(settings: Mapping[str, Any], fingerprint: Fingerprint) -> str:
    statistics = fingerprint.statistics
    if statistics is None:
        return ""
    ranges, bright = matched_ranges(fingerprint), statistics.target.bright_share
    if ranges is not None and not settings.get("match_intensity"):
        return (
            "match_intensity is off, though the target's soft tissue lies below 200 HU: translations keep the source's "
            f'order of brightness; give --match_intensity "{ranges}".'
        )
    if settings.get("match_intensity") and is_in_hu(fingerprint.target.modality) and bright > CONTRAST:
        return (
            f"match_intensity leaves out what is above 200 HU, {100 * bright:.0f} % of the target's tissue, such as "
            "vessels full of contrast medium: set it to null."
        )
    return ""
