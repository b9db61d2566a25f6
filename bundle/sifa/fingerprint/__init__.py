"""The fingerprint: what a network was trained on, and how a scan has to be prepared for it."""

from importlib import import_module
from typing import Any

from sifa.fingerprint.fingerprint import Fingerprint, parse_fingerprint, read_fingerprint, write_fingerprint

__all__ = ["Fingerprint", "parse_fingerprint", "read_fingerprint", "write_fingerprint"]


def __getattr__(name: str) -> Any:  # so that inference does not import what computes fingerprints
    if name == "compute_fingerprint":
        return import_module("sifa.fingerprint.extractor").compute_fingerprint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
