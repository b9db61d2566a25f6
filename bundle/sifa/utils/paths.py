"""Where this bundle lies on disk, whatever its folder is called and wherever it is run from."""

from __future__ import annotations

from pathlib import Path


def bundle_root() -> str:
    """Returns the folder that holds `configs/`, `models/` and this package."""
    return str(Path(__file__).resolve().parents[2])
