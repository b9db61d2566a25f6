"""Postprocessing of masks: masks in, masks out."""

from sifa.postprocessing.pamr import refine

__all__ = [
    "refine",
]
