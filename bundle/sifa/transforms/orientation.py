"""Axis codes that put the slices of an anatomical plane along the last axis of a volume."""

from __future__ import annotations

# nibabel axis codes: the directions in which the row, column and slice indices increase. Rows and columns are in the
# order of the radiological display, so images need no rotation.
AXCODES = {
    "axial": "PLS",  # rows from anterior to posterior, columns from right to left, slices from inferior to superior
    "coronal": "ILP",  # rows from superior to inferior, columns from right to left, slices from anterior to posterior
    "sagittal": "IPL",  # rows from superior to inferior, columns from anterior to posterior, slices from right to left
}
