"""The region of interest: the box around the structures of a coarse mask, and the windows that cover it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from sifa.inference.region_of_interest import box_of_main_components, windows_over


def test_islands_do_not_widen_the_region_and_larger_components_do() -> None:
    labels = np.zeros((20, 30, 30), dtype=np.uint8)
    labels[5:10, 5:10, 5:10] = 1
    labels[5:7, 15:19, 15:19] = 1  # 32 of 125 voxels: a second component
    labels[12, 20, 20] = 2  # small, and yet the largest of its structure
    labels[19, 29, 29] = 1  # an island
    assert box_of_main_components(labels, 0.05) == (slice(5, 13), slice(5, 21), slice(5, 21))
    assert box_of_main_components(labels, 0.0) == (slice(5, 20), slice(5, 30), slice(5, 30))
    assert box_of_main_components(np.zeros_like(labels), 0.05) is None


@given(data=st.data(), window=st.integers(1, 12), size=st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_windows_over_a_part_are_the_windows_of_the_whole_axis_that_touch_it(
    data: st.DataObject, window: int, size: int
) -> None:
    interval = data.draw(st.integers(1, window))
    start = data.draw(st.integers(0, size - 1))
    part = slice(start, data.draw(st.integers(start + 1, size)))

    found = windows_over(part, size, window, interval)

    if size <= window:
        assert found == slice(0, size)
        return
    whole = [side for (side,) in dense_patch_slices((size,), (window,), (interval,))]
    touching = [side for side in whole if side.start < part.stop and side.stop > part.start]
    assert found == slice(touching[0].start, touching[-1].stop)
    length = found.stop - found.start
    again = dense_patch_slices((length,), (window,), (interval,))
    assert [found.start + side.start for (side,) in again] == [side.start for side in touching]
