"""The fingerprint: what a network was trained on, and how a scan has to be prepared for it."""

from importlib import import_module
from typing import Any

from sifa.fingerprint.fingerprint import Fingerprint, parse_fingerprint, read_fingerprint, write_fingerprint

__all__ = ["Fingerprint", "parse_fingerprint", "read_fingerprint", "write_fingerprint"]


LATER = {"check_units": "unit_check", "compute_fingerprint": "extractor"}  # inference imports neither


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(import_module(f"sifa.fingerprint.{LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
