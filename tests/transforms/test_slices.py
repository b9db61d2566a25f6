"""Properties of slices: views on the scan, however it is stored, and labels brought back to its own pixels."""

from __future__ import annotations

import numpy as np
import torch
from builders import ALL_AXCODES, stored_as
from hypothesis import given, settings
from hypothesis import strategies as st
from sifa.transforms.resampling import sample_positions
from sifa.transforms.slices import ScanSlices, as_slices, slice_steps

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
AXCODES = st.sampled_from(ALL_AXCODES)


@given(shape=SIZES, stored=AXCODES, wanted=AXCODES)
@settings(max_examples=100, deadline=None)
def test_slices_are_the_same_however_a_scan_is_stored_and_what_is_written_to_them_is_in_the_scan(
    shape: tuple[int, int, int], stored: str, wanted: str
) -> None:
    volume = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    turned, turned_affine = stored_as(volume, affine, stored)
    slices = as_slices(turned[None], turned_affine, wanted)

    assert np.array_equal(slices, as_slices(volume[None], affine, wanted))
    assert slice_steps(turned_affine, wanted).tolist() == slice_steps(affine, wanted).tolist()
    target = np.zeros_like(turned)
    as_slices(target[None], turned_affine, wanted)[...] = slices
    assert np.array_equal(target, turned)


@given(data=st.data(), rows=st.integers(1, 9), columns=st.integers(1, 9), finer=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_labels_sampled_at_least_as_finely_as_the_scan_are_restored_exactly(
    data: st.DataObject, rows: int, columns: int, finer: int
) -> None:
    values = data.draw(st.lists(st.integers(0, 4), min_size=2 * rows * columns, max_size=2 * rows * columns))
    labels = np.array(values, dtype=np.uint8).reshape(2, rows, columns)
    positions = (sample_positions(rows, 2.0, 2.0 / finer), sample_positions(columns, 2.0, 2.0 / finer))
    scan = ScanSlices(labels[:, None], positions, 1.0, (-1.0, 1.0))
    nearest = [torch.arange(len(axis)).div(finer, rounding_mode="floor") for axis in positions]
    sampled = torch.from_numpy(labels)[:, nearest[0]][:, :, nearest[1]]

    assert np.array_equal(scan.restore(sampled, scan.whole), labels)
