"""The log of a manifest, `manifest.jsonl`: a line of JSON for each scan finished since the manifest was written.

Writing a line costs the same however many scans the manifest lists. The line of a process that was killed while it
wrote is incomplete; readers leave it out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def log_of(manifest: Path) -> Path:
    """Returns the log of a manifest's file."""
    return manifest.with_suffix(".jsonl")


def manifest_of(path: Path) -> Path:
    """Returns the manifest of a log; a manifest is returned as it is."""
    return path.with_suffix(".json")


def read_entries(log: Path, position: int = 0) -> tuple[list[Any], int]:
    """Returns the complete entries of a log from a position on, and the position after them.

    Args:
        log: the file, which need not exist.
        position: in bytes, as an earlier call returned it; a log that is shorter is another one, read from its start.
    """
    try:
        with log.open("rb") as stream:
            end = stream.seek(0, 2)
            position = position if position <= end else 0
            stream.seek(position)
            text = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return [], 0
    whole = text[: text.rfind(b"\n") + 1]
    entries = []
    for line in whole.splitlines():
        with suppress(ValueError):  # of a process that was killed while it wrote
            entries.append(json.loads(line))
    return entries, position + len(whole)


def append_entry(log: Path, entry: Mapping[str, Any], position: int) -> int:
    """Appends an entry and returns the position after it; the caller holds the lock of the manifest.

    Args:
        log: the file, which is made where it is missing.
        entry: what the line holds.
        position: after the last complete line; what follows it is ended, so that the new line is one.

    Raises:
        OSError: when it cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        broken = stream.tell() != position
        stream.write(b"\n" * broken + json.dumps(entry).encode() + b"\n")
        stream.flush()
        return stream.tell()
