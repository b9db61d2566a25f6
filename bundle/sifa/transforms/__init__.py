"""Transforms of volumes and slices: arrays in, arrays out."""

from sifa.transforms.dictionary import AlignGridd, NormalizeIntensityd, Spacingd
from sifa.transforms.random_appearance import RandomAppearanced

__all__ = [
    "AlignGridd",
    "NormalizeIntensityd",
    "RandomAppearanced",
    "Spacingd",
]
