"""Transforms of volumes and slices."""

from sifa.transforms.dictionary import (
    AlignGridd,
    MapLabelsd,
    NormalizeIntensityd,
    ShareGridd,
    SliceOrientationd,
    Spacingd,
)
from sifa.transforms.padding import CommonFramed, CropAroundLabeld, SplitPaddingd
from sifa.transforms.random_appearance import RandomAppearanced

__all__ = [
    "AlignGridd",
    "CommonFramed",
    "CropAroundLabeld",
    "MapLabelsd",
    "NormalizeIntensityd",
    "RandomAppearanced",
    "ShareGridd",
    "SliceOrientationd",
    "Spacingd",
    "SplitPaddingd",
]
