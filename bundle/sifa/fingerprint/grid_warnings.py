"""Warnings about slices that lose resolution or that do not show the same from scan to scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

COARSER = 2.0  # ratio of voxel sizes beyond which pixels are too coarse
SHOWN = 3  # scans that a warning names
TILTED = 45.0  # degrees between the slices of a scan and those of most scans beyond which there is a warning


def resolution_warnings(pixel_spacing: float, spacings: Sequence[Sequence[float]]) -> list[str]:
    """Returns a warning where training slices are much coarser than the scans.

    Args:
        pixel_spacing: mm between the pixels of the training slices.
        spacings: mm between voxels of each training scan along rows, columns and slices.
    """
    rows, columns, _ = (float(step) for step in np.median(spacings, axis=0))
    if pixel_spacing <= COARSER * max(rows, columns):
        return []
    return [
        f"slices have pixels of {pixel_spacing:.2g} mm, more than twice the {max(rows, columns):.2g} mm of the "
        "scans: small structures are lost; give a larger slice_size, or a smaller pixel_spacing."
    ]


def is_cut_across(spacings: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Returns for each scan whether slices run along its coarse axis, so that pixels are long on one side.

    Args:
        spacings: mm between voxels of each scan along rows, columns and slices, (N, 3).
    """
    steps = np.asarray(spacings, dtype=float)
    in_plane = steps[:, :2]
    is_cut: npt.NDArray[np.bool_] = in_plane.max(axis=1) > COARSER * np.maximum(steps[:, 2], in_plane.min(axis=1))
    return is_cut


def coarse_plane_warnings(paths: Sequence[str], spacings: Sequence[Sequence[float]], plane: str) -> list[str]:
    """Returns a warning that names the scans whose slices run along an axis that is coarse.

    Args:
        paths: of the training scans.
        spacings: mm between voxels of each of them along rows, columns and slices.
        plane: the slices' plane in the patient.
    """
    in_plane, is_cut = np.asarray(spacings)[:, :2], is_cut_across(spacings)
    if not is_cut.any():
        return []
    coarse, fine = (float(np.median(part)) for part in (in_plane[is_cut].max(axis=1), in_plane[is_cut].min(axis=1)))
    return [
        f"{plane} slices run along the coarse axis of {is_cut.sum()} of {len(paths)} scans ({coarse:.2g} mm, beside "
        f"pixels of {fine:.2g} mm): {_named(paths, is_cut)}; give the slice_plane in which they were acquired, or "
        "acquired, which takes each scan's own slices, or leave these scans out."
    ]


def main_view(views: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Returns the direction (3,) of the scan near which most others lie, within `TILTED` degrees.

    Args:
        views: direction (3,) from the slices of each scan toward the viewer.
    """
    directions = np.asarray(views, dtype=float)
    is_near = directions @ directions.T >= np.cos(np.deg2rad(TILTED))
    found: npt.NDArray[np.float64] = directions[np.argmax(is_near.sum(axis=0))]
    return found


def tilt_warnings(paths: Sequence[str], views: Sequence[npt.NDArray[np.float64]]) -> list[str]:
    """Returns a warning that names the scans whose acquired slices have another direction than those of most scans.

    Args:
        paths: of the training scans of both domains.
        views: direction (3,) from the slices of each of them toward the viewer.
    """
    is_other = np.asarray(views) @ main_view(views) < np.cos(np.deg2rad(TILTED))
    if not is_other.any():
        return []
    return [
        f"the acquired slices of {is_other.sum()} of {len(paths)} scans are turned by more than {TILTED:g} degrees "
        f"from those of most scans: {_named(paths, is_other)}; leave them out, or choose a slice_plane that suits all."
    ]


def _named(paths: Sequence[str], chosen: npt.NDArray[np.bool_]) -> str:
    names = [path for path, is_chosen in zip(paths, chosen, strict=True) if is_chosen]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
