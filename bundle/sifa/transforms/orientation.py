"""How volumes are turned so that slices of the wanted anatomical plane lie along the last axis."""

from __future__ import annotations

# nibabel axis codes: where the rows, the columns and the slices of a volume lead to. Rows and columns are laid out as
# radiologists look at the plane, so that pictures need no turning.
AXCODES = {
    "axial": "PLS",  # rows from anterior to posterior, columns from right to left, slices from inferior to superior
    "coronal": "ILP",  # rows from superior to inferior, columns from right to left, slices from anterior to posterior
    "sagittal": "IPL",  # rows from superior to inferior, columns from anterior to posterior, slices from right to left
}
