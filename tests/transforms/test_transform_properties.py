"""Slices, resampling and intensities, for any storage order, shape and spacing: identity, inverse, order, range."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import torch
from builders import ALL_AXCODES, Array, diagonal_affine, stored_as
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from sifa.transforms.intensity import along_curve, intensity_window, normalize
from sifa.transforms.orientation import AXCODES
from sifa.transforms.resampling import resample_slices, restore_labels, sample_positions
from sifa.transforms.slices import Region, ScanSlices, as_slices, slice_steps

SIZES = st.integers(1, 9)
SHAPES = st.tuples(SIZES, SIZES, SIZES)
SPACINGS = st.floats(0.2, 5.0)
PLANES = st.sampled_from(sorted(AXCODES))
STORED = st.sampled_from(ALL_AXCODES)
HU = st.floats(-2000, 4000, width=32)


def numbered_volume(shape: tuple[int, ...]) -> Array:
    """Returns a volume (1, X, Y, Z) whose voxels all differ."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)


# --- slices ---


@given(SHAPES, PLANES, STORED)
def test_slices_are_the_same_however_the_volume_is_stored(shape: tuple[int, ...], plane: str, stored: str) -> None:
    volume, affine = numbered_volume(shape), diagonal_affine((1.5, 0.5, 2.0))
    turned, turned_affine = stored_as(volume[0], affine, stored)

    expected = as_slices(volume, affine, AXCODES[plane])

    assert np.array_equal(as_slices(turned[None], turned_affine, AXCODES[plane]), expected)
    assert np.allclose(slice_steps(turned_affine, AXCODES[plane]), slice_steps(affine, AXCODES[plane]))


@given(SHAPES, PLANES, STORED)
def test_slices_are_a_view_with_every_voxel_once(shape: tuple[int, ...], plane: str, stored: str) -> None:
    volume, affine = stored_as(numbered_volume(shape)[0], diagonal_affine((1.0, 1.0, 1.0)), stored)
    volume = np.ascontiguousarray(volume)

    slices = as_slices(volume[None], affine, AXCODES[plane])

    assert np.shares_memory(slices, volume)
    assert np.array_equal(np.sort(slices, axis=None), np.sort(volume, axis=None))


@given(SHAPES, PLANES)
def test_a_volume_stored_in_the_planes_order_is_already_slices(shape: tuple[int, ...], plane: str) -> None:
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, (axis, sign) in enumerate(nib.orientations.axcodes2ornt(tuple(AXCODES[plane]))):
        affine[int(axis), column] = sign
    assert "".join(nib.aff2axcodes(affine)) == AXCODES[plane]
    volume = numbered_volume(shape)

    slices = as_slices(volume, affine, AXCODES[plane])

    assert np.array_equal(slices, volume.transpose(3, 0, 1, 2))


# --- resampling ---


@given(SIZES, SPACINGS)
def test_sampling_at_the_pixel_size_of_a_scan_takes_its_pixels(size: int, step: float) -> None:
    assert torch.allclose(sample_positions(size, step, step), torch.arange(size, dtype=torch.float64))


@given(SIZES, SPACINGS, SPACINGS)
def test_samples_begin_at_the_first_pixel_and_end_within_half_a_sample_of_the_last(
    size: int, step: float, spacing: float
) -> None:
    positions = sample_positions(size, step, spacing)

    assert positions[0] == 0
    assert abs(float(positions[-1]) * step - (size - 1) * step) <= spacing / 2 + 1e-9


@given(SIZES, SIZES, st.integers(1, 3))
def test_resampling_to_the_same_pixel_size_changes_nothing(height: int, width: int, count: int) -> None:
    slices = torch.rand((count, 2, height, width), generator=torch.Generator().manual_seed(0)) * 2 - 1
    positions = [sample_positions(size, 1.0, 1.0) for size in (height, width)]

    assert torch.allclose(resample_slices(slices, positions), slices, atol=1e-5)


@given(SIZES, SIZES, SPACINGS, SPACINGS)
def test_resampled_slices_stay_within_the_range_of_the_scan(
    height: int, width: int, step: float, spacing: float
) -> None:
    slices = torch.rand((1, 1, height, width), generator=torch.Generator().manual_seed(0)) * 2 - 1
    positions = [sample_positions(size, step, spacing) for size in (height, width)]

    result = resample_slices(slices, positions)

    assert result.shape[2:] == tuple(len(part) for part in positions)
    assert float(result.min()) >= float(slices.min()) - 1e-5
    assert float(result.max()) <= float(slices.max()) + 1e-5


@given(SIZES, SIZES, st.integers(1, 4))
def test_labels_of_a_finer_grid_come_back_as_they_were(height: int, width: int, finer: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (2, height, width)).astype(np.uint8))
    positions = [sample_positions(size, float(finer), 1.0) for size in (height, width)]
    rows, columns = ((part + 1e-9).floor().long() for part in positions)  # the pixel at or before each sample

    sampled = labels[:, rows][:, :, columns]

    assert torch.equal(restore_labels(sampled, positions, (height, width)), labels)


@given(SHAPES, PLANES, STORED, st.data())
def test_a_region_is_restored_where_it_was_sampled_and_the_rest_is_background(
    shape: tuple[int, ...], plane: str, stored: str, data: st.DataObject
) -> None:
    volume, affine = stored_as(numbered_volume(shape)[0], diagonal_affine((1.0, 1.0, 1.0)), stored)
    slices = as_slices(volume[None], affine, AXCODES[plane])
    depth, _, height, width = slices.shape
    positions = (sample_positions(height, 1.0, 1.0), sample_positions(width, 1.0, 1.0))
    scan = ScanSlices(slices, positions, 1.0, (0.0, 1.0))
    ranges = [
        sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in (depth, height, width)
    ]
    region = Region(*(slice(start, stop) for start, stop in ranges))
    inside = np.zeros((depth, height, width), np.uint8)
    inside[region] = np.random.default_rng(0).integers(1, 5, inside[region].shape)

    restored = scan.restore(torch.from_numpy(inside[region]), region)

    assert np.array_equal(restored, inside[region.slices])


# --- intensities ---

VOLUMES = hypothesis_numpy.arrays(np.float32, st.integers(1, 40), elements=HU)


@given(VOLUMES, HU, HU)
def test_normalized_intensities_lie_between_minus_1_and_1_in_the_order_of_the_scans(
    volume: Array, one: float, other: float
) -> None:
    volume = np.sort(volume)

    result = normalize(torch.from_numpy(volume), *sorted((one, other)))

    assert result.dtype == torch.float32
    assert float(result.abs().max()) <= 1
    assert bool((result.diff() >= 0).all())


@given(HU, st.floats(1, 4000, width=32))
def test_the_ends_and_the_middle_of_the_window_become_minus_1_1_and_0(lower: float, width: float) -> None:
    upper = lower + width
    ends = torch.tensor([lower, (lower + upper) / 2, upper], dtype=torch.float32)

    assert torch.allclose(normalize(ends, lower, upper), torch.tensor([-1.0, 0.0, 1.0]), atol=2e-3)


@given(VOLUMES, st.floats(0, 100), st.floats(0, 100))
def test_percentile_windows_lie_within_the_volume(volume: Array, one: float, other: float) -> None:
    lower, upper = sorted((one, other))

    low, high = intensity_window(torch.from_numpy(volume), {"mode": "percentiles", "lower": lower, "upper": upper})

    tolerance = 1e-3  # of float32 at 4000 HU
    assert volume.min() - tolerance <= low <= high + tolerance
    assert high <= volume.max() + tolerance


@given(hypothesis_numpy.arrays(np.float32, 12, elements=st.floats(-1, 1, width=32)))
def test_a_curve_that_is_the_identity_changes_nothing_and_an_increasing_one_keeps_the_order(values: Array) -> None:
    image = torch.from_numpy(np.sort(values))
    identity = {"from": [-1.0, 0.0, 1.0], "to": [-1.0, 0.0, 1.0]}
    bent = {"from": [-1.0, -0.2, 1.0], "to": [-1.0, 0.6, 1.0]}

    assert torch.allclose(along_curve(image.clone(), identity), image, atol=1e-6)
    result = along_curve(image.clone(), bent)
    assert bool((result.diff() >= 0).all())
    assert float(result.abs().max()) <= 1
    assert along_curve(image, None) is image
