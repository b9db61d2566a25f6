"""Transforms of volumes and slices."""

from sifa.transforms.dictionary import AlignGridd, NormalizeIntensityd, ShareGridd, Spacingd
from sifa.transforms.random_appearance import RandomAppearanced

__all__ = [
    "AlignGridd",
    "NormalizeIntensityd",
    "RandomAppearanced",
    "ShareGridd",
    "Spacingd",
]
