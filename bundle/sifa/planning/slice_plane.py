"""The plane of slices: the one rule of `run planning` and of `scripts/prepare_dataset.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sifa.fingerprint.grid_warnings import is_cut_across
from sifa.transforms.orientation import ACQUIRED, AXCODES
from sifa.transforms.slices import slice_steps

FEW = 0.1  # share of the scans of a domain that may be cut across their slices; they are warned of by name

Affine = npt.NDArray[np.float64]


class PlaneChoice(NamedTuple):
    """The plane of slices, and the reason for it."""

    plane: str  # axial, coronal, sagittal or acquired
    reason: str


def choose_plane(affines: Mapping[str, Sequence[Affine]], stated: str = "") -> PlaneChoice:
    """Returns the plane in which scans should be cut.

    Scans are coarse across the plane that they were acquired in. Slices of another plane have pixels of very different
    sides and show little. A stated plane is kept where it cuts at most a tenth of the scans of each domain across their
    slices. Otherwise it is, among the planes that do so, the one whose pixels are finest in the domain that has the
    coarsest ones, the first in the order axial, coronal, sagittal where they are alike. Where no plane does so, such as
    for tilted stacks, scans are cut as they were acquired.

    Args:
        affines: from voxel indices to RAS coordinates in mm, of the training scans of each domain.
        stated: the plane that was given; empty: none. `acquired` is kept.
    """
    steps = {
        plane: {
            domain: np.array([slice_steps(affine, axcodes) for affine in scans]) for domain, scans in affines.items()
        }
        for plane, axcodes in AXCODES.items()
    }
    if stated == ACQUIRED:
        return PlaneChoice(ACQUIRED, "as given")
    shares = {plane: {name: _share(scans) for name, scans in domains.items()} for plane, domains in steps.items()}
    fitting = [plane for plane, domains in shares.items() if max(domains.values()) <= FEW]
    if stated in fitting:
        return PlaneChoice(stated, "as given")
    if not fitting:
        cut = ", ".join(
            f"{plane} ones in {' and '.join(f'{100 * share:.0f} % of the {name}' for name, share in domains.items())}"
            for plane, domains in shares.items()
        )
        return PlaneChoice(
            ACQUIRED, f"no plane of the patient fits, since slices run along the coarse axis of scans: {cut}"
        )
    worst = {plane: max(_anisotropy(scans) for scans in steps[plane].values()) for plane in fitting}
    return PlaneChoice(min(fitting, key=lambda plane: round(worst[plane], 1)), "its pixels are the finest")


def _share(steps: npt.NDArray[np.float64]) -> float:
    """Returns the share of scans that are cut across their slices, by mm along rows, columns and slices (N, 3)."""
    return float(np.mean(is_cut_across(steps)))


def _anisotropy(steps: npt.NDArray[np.float64]) -> float:
    """Returns how much coarser the pixels of a plane are than the finest axis, by the medians of scans (N, 3)."""
    rows, columns, slices = np.median(steps, axis=0)
    return float(max(rows, columns) / min(rows, columns, slices))
