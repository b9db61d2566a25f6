"""Slices of two volumes that alternate in one scan are noticed by their content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hostile import ct
from sifa.io.scan_reader import load_image
from sifa.transforms.slice_continuity import alternation, alternation_reason


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_two_volumes_that_alternate_are_noticed(axis: int) -> None:
    volume = np.moveaxis(ct((32, 24, 30)).copy(), axis, 0)
    volume[1::2] = np.roll(volume, 5, axis=1)[1::2]
    assert "alternate between two images" in alternation_reason(np.moveaxis(volume, 0, axis))


def test_anatomy_noise_and_stacked_volumes_are_not_taken_for_it() -> None:
    noise = np.random.default_rng(0).normal(0, 30, (30, 40, 40))
    for volume in (ct(), noise, np.concatenate([ct(), ct() + 20]), np.zeros((12, 12, 12)), ct((4, 4, 4))):
        assert alternation_reason(volume) == ""


def test_the_ratio_is_that_of_mean_differences() -> None:
    volume = np.zeros((10, 3, 3))
    volume[1::2] = 8
    volume += np.arange(10)[:, None, None]
    assert alternation(volume) == pytest.approx(2 / ((5 * 9 + 4 * 7) / 9))


def test_real_scans_do_not_alternate(shared: Path) -> None:
    for path in sorted((shared / "scans").glob("*.nii.gz")):
        assert alternation(load_image(path).numpy()) > 1.2, path
