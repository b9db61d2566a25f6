"""Postprocessing of masks: masks in, masks out."""

from sifa.postprocessing.pamr import refine_with_pamr

__all__ = [
    "refine_with_pamr",
]
