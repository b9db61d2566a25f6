"""Whether a scan is in HU is judged by the bulk of its values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import Array
from hostile import ct
from hypothesis import given
from hypothesis import strategies as st
from sifa.io.scan_reader import load_image
from sifa.transforms.hounsfield import is_surely_hu, not_hu_reason


@pytest.mark.parametrize("offset", [1000, 1024])
@pytest.mark.parametrize("padding", [-1024, -2000, -3024, 0])
def test_an_offset_is_found_whatever_the_padding_is(offset: int, padding: int) -> None:
    volume = ct() + offset
    volume[:3] = padding
    assert "CT plus about 1000" in not_hu_reason(volume)


def test_sixteen_bit_values_beyond_those_of_ct_are_not_hu() -> None:
    assert "above 3071" in not_hu_reason((ct().astype(np.int32) + 1024) * 10)


def head() -> Array:
    """Returns a CT of a head: skull around brain in air."""
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, 40),) * 3, indexing="ij"))
    radius = np.sqrt((places**2).sum(axis=0)) / 0.8
    volume = np.select([radius < 0.85, radius < 0.95, radius < 1.0], [35.0, 1100.0, -80.0], -1000.0)
    return (volume + np.random.default_rng(0).normal(0, 10, volume.shape)).astype(np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda volume: volume - 1024,
        lambda volume: volume * 0.5,
        lambda volume: np.clip((volume + 160) / 400 * 255 - 128, -128, 127).round(),
        lambda volume: (volume + 1024) * 10,
    ],
)
@pytest.mark.parametrize("scan", [head, ct])
def test_other_scales_and_offsets_are_found(scan: Callable[[], Array], change: Callable[[Array], Array]) -> None:
    assert not_hu_reason(scan()) == ""
    assert is_surely_hu(scan())
    assert not_hu_reason(change(scan())) != ""


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_offset_in_a_part_of_a_scan_is_found(axis: int) -> None:
    volume = np.moveaxis(head(), axis, 0).copy()
    volume[len(volume) // 2 :] += 1024
    assert "jump" in not_hu_reason(np.moveaxis(volume, 0, axis))


def test_values_far_below_air_are_not_hu() -> None:
    assert "below -1500" in not_hu_reason(ct().astype(np.int32) - 8192)


def test_inverted_values_are_not_hu() -> None:
    assert not_hu_reason(-head()) != ""


def test_a_hand_in_a_large_field_of_view_is_hu() -> None:
    volume = np.random.default_rng(0).normal(-1000, 8, (60, 60, 60))
    volume[28:36, 26:36, 10:20] = np.random.default_rng(1).normal(40, 20, (8, 10, 10))
    volume[30:33, 29:32, 10:20] = 700
    assert not_hu_reason(volume) == ""


@given(st.integers(-1024, -900), st.integers(-100, 60), st.integers(60, 1500))
def test_a_body_in_air_is_hu_whatever_it_is_clipped_to(lower: int, fat: int, upper: int) -> None:
    assert not_hu_reason(np.clip(ct(), lower, upper)) == ""
    assert not_hu_reason(np.clip(ct(), min(fat, -60), upper)) == ""


def test_ct_and_mr_of_real_scans_are_distinguished_by_their_values(shared: Path) -> None:
    for name, is_ct in (("cardiac_ct_1p5mm", True), ("abdomen_ct_3mm", True), ("abdomen_mr_3mm", False)):
        volume = load_image(shared / "scans" / f"{name}.nii.gz").numpy()
        assert (not_hu_reason(volume) == "") is is_ct, name
        assert is_surely_hu(volume) is is_ct, name
        assert not_hu_reason(volume + 1024) != "", name


def test_all_training_images_of_the_real_benchmark_are_told_apart(shared: Path) -> None:
    for path in sorted((shared / "abdomen" / "ct_train_images").iterdir())[::5]:
        assert not_hu_reason(load_image(path).numpy()) == "", path
    for path in sorted((shared / "abdomen" / "mr_images").iterdir())[::5]:
        assert not_hu_reason(load_image(path).numpy()) != "", path
