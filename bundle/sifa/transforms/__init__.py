"""Transforms of volumes and slices."""

from sifa.transforms.dictionary import AlignGridd, MapLabelsd, NormalizeIntensityd, ShareGridd, Spacingd
from sifa.transforms.random_appearance import RandomAppearanced

__all__ = [
    "AlignGridd",
    "MapLabelsd",
    "NormalizeIntensityd",
    "RandomAppearanced",
    "ShareGridd",
    "Spacingd",
]
