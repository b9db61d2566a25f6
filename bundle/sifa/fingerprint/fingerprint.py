"""The fingerprint: what a network was trained on, and how a scan has to be prepared for it.

It is computed from training images, written beside the weights as `fingerprint.json`, and the only place from which
inference, evaluation and export take preprocessing and network widths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sifa.utils.errors import InputError
from sifa.utils.files import write_json

FORMAT = 1
REQUIRED = ("format", "labels", "slice_plane", "orientation", "spacing", "slice_size", "source", "target", "network")


def read_fingerprint(path: str | Path) -> dict[str, Any]:
    """Reads a `fingerprint.json`; one of before there was a refinement or an arrangement has none.

    Raises:
        InputError: when it is missing, is not JSON, or lacks an entry.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: there is no fingerprint: point --model_dir at a folder with the model.pt and fingerprint.json "
            "that training wrote."
        )
    try:
        fingerprint = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: this is not valid JSON ({error}): copy it anew from the training's output."
        ) from error
    missing = [key for key in REQUIRED if not isinstance(fingerprint, dict) or key not in fingerprint]
    if missing:
        raise InputError(f"{path}: it lacks {', '.join(missing)}: copy it anew from the training's output.")
    if fingerprint["format"] != FORMAT:
        raise InputError(
            f"{path}: its format is {fingerprint['format']}, this bundle reads {FORMAT}: use the bundle it came with."
        )
    fingerprint.setdefault("refinement_iterations", 0)
    fingerprint.setdefault("arrangement", {})
    return fingerprint


def write_fingerprint(fingerprint: Mapping[str, Any], path: str | Path) -> None:
    """Writes a fingerprint as JSON, under a temporary name first."""
    write_json(Path(path), fingerprint)
