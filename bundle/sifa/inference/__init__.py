"""Inference over folders of scans: find, check, segment, measure, write and record."""

from importlib import import_module
from typing import Any

from sifa.inference.engine import require_engine, with_engine
from sifa.inference.ensemble import flips_of, load_networks, model_folders, shared_fingerprint
from sifa.inference.find_scans import find_scans
from sifa.inference.manifest import Manifest, settings_hash
from sifa.inference.merge_shards import merge_shards
from sifa.inference.output_names import require_naming
from sifa.inference.read_ahead import with_next
from sifa.inference.segment_scans import SegmentScan
from sifa.inference.slice_segmenter import SliceSegmenter

WRITERS = ("DicomSegWriter", "PreviewWriter", "ProbabilityWriter", "RtStructWriter", "UncertaintyWriter")

__all__ = [
    "Manifest",
    "SegmentScan",
    "SliceSegmenter",
    "find_scans",
    "flips_of",
    "load_networks",
    "merge_shards",
    "model_folders",
    "require_engine",
    "require_naming",
    "settings_hash",
    "shared_fingerprint",
    "with_engine",
    "with_next",
]


def __getattr__(name: str) -> Any:  # matplotlib is loaded only where a writer asks for it
    if name in WRITERS:
        return getattr(import_module("sifa.inference.writers"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
