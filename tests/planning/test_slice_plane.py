"""The rule for the plane of slices: none across a coarse axis, and acquired slices where no plane does."""

from __future__ import annotations

import numpy as np
import pytest
from builders import ALL_AXCODES, Array, diagonal_affine, stored_as
from scipy.spatial.transform import Rotation
from sifa.planning.slice_plane import choose_plane
from sifa.transforms.orientation import ACQUIRED, AXCODES

SIDE, BACK, ABOVE = (6.0, 1.0, 1.0), (1.0, 6.0, 1.0), (1.0, 1.0, 6.0)  # mm along x, y, z: coarse along one of them


def scans(*steps: tuple[float, float, float]) -> list[Array]:
    return [diagonal_affine(one) for one in steps]


def tilted(count: int) -> list[Array]:
    """Returns stacks whose slices of 8 mm are tilted by about half a right angle, so that the nearest axis varies."""
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        affine = np.eye(4)
        turn = Rotation.from_euler("xyz", rng.normal([45, 35, 0], 12), degrees=True).as_matrix()
        affine[:3, :3] = turn * (1.4, 1.4, 8.0)
        found.append(affine)
    return found


@pytest.mark.parametrize("stated", ["", *AXCODES])
def test_scans_that_are_coarse_across_one_plane_are_cut_in_that_plane(stated: str) -> None:
    abdomen = {"source": scans((1.25, 1.25, 7.7)), "target": scans((2.0, 2.0, 3.0))}
    assert choose_plane(abdomen, stated).plane == "axial"
    assert choose_plane({"source": scans(BACK), "target": scans((1.0, 1.0, 1.0))}, stated).plane == "coronal"
    assert choose_plane({"source": scans(SIDE)}, stated).plane == "sagittal"


@pytest.mark.parametrize("stated", AXCODES)
def test_the_stated_plane_is_kept_where_it_runs_along_no_coarse_axis(stated: str) -> None:
    choice = choose_plane({"source": scans((1.0, 1.0, 1.9)), "target": scans((2.0, 2.0, 2.0))}, stated)
    assert choice == (stated, "as given")


def test_without_a_stated_plane_the_finest_pixels_decide_and_isotropic_scans_are_cut_axially() -> None:
    assert choose_plane({"source": scans((1.0, 1.6, 1.0)), "target": scans((1.0, 1.0, 1.0))}).plane == "coronal"
    assert choose_plane({"source": scans((1.0, 1.0, 1.0))}).plane == "axial"


def test_a_tenth_of_the_scans_of_a_domain_may_be_cut_across_their_slices() -> None:
    few, many = scans(*[ABOVE] * 9, BACK), scans(*[ABOVE] * 8, BACK, BACK)
    assert choose_plane({"source": few, "target": few}).plane == "axial"
    assert choose_plane({"source": few, "target": many}).plane == ACQUIRED


@pytest.mark.parametrize("stated", ["", *AXCODES, ACQUIRED])
def test_tilted_stacks_are_cut_as_they_were_acquired(stated: str) -> None:
    assert choose_plane({"source": tilted(12), "target": tilted(9)}, stated).plane == ACQUIRED


def test_domains_of_different_planes_are_cut_as_they_were_acquired_and_the_reason_says_so() -> None:
    choice = choose_plane({"source": scans(ABOVE, ABOVE), "target": scans(SIDE)})
    assert choice.plane == ACQUIRED
    assert "axial ones in 0 % of the source and 100 % of the target" in choice.reason
    assert "sagittal ones in 100 % of the source and 0 % of the target" in choice.reason


@pytest.mark.parametrize("plane", AXCODES)
def test_acquired_is_kept_where_it_is_stated(plane: str) -> None:
    steps = {"axial": ABOVE, "coronal": BACK, "sagittal": SIDE}[plane]
    assert choose_plane({"source": scans(steps)}, ACQUIRED) == (ACQUIRED, "as given")


def test_the_storage_order_of_scans_does_not_matter() -> None:
    for axcodes in ALL_AXCODES:
        _, affine = stored_as(np.zeros((2, 3, 4)), diagonal_affine(BACK), axcodes)
        assert choose_plane({"source": [affine]}).plane == "coronal"
