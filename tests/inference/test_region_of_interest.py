"""The region of interest: the box around the structures of a coarse mask, and the windows that cover it."""

from __future__ import annotations

import numpy as np
from sifa.inference.region_of_interest import box_of_main_pieces


def test_islands_do_not_widen_the_region_and_the_pieces_of_a_structure_do() -> None:
    labels = np.zeros((20, 30, 30), dtype=np.uint8)
    labels[5:10, 5:10, 5:10] = 1
    labels[5:7, 15:19, 15:19] = 1  # 32 of 125 voxels: a second piece
    labels[12, 20, 20] = 2  # small, and yet the largest of its structure
    labels[19, 29, 29] = 1  # an island
    assert box_of_main_pieces(labels, 0.05) == (slice(5, 13), slice(5, 21), slice(5, 21))
    assert box_of_main_pieces(labels, 0.0) == (slice(5, 20), slice(5, 30), slice(5, 30))
    assert box_of_main_pieces(np.zeros_like(labels), 0.05) is None
