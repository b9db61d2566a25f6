"""Inference over folders of scans: find, check, segment, measure, write and record."""

from importlib import import_module
from typing import Any

from sifa.inference.find_scans import find_scans
from sifa.inference.manifest import Manifest, settings_hash
from sifa.inference.merge_shards import merge_shards
from sifa.inference.segment_scans import SegmentScan
from sifa.inference.slice_segmenter import SliceSegmenter

WRITERS = ("DicomSegWriter", "PreviewWriter", "UncertaintyWriter")

__all__ = [
    "Manifest",
    "SegmentScan",
    "SliceSegmenter",
    "find_scans",
    "merge_shards",
    "settings_hash",
]


def __getattr__(name: str) -> Any:  # matplotlib is loaded only where a writer asks for it
    if name in WRITERS:
        return getattr(import_module("sifa.inference.writers"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
