"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yields a name in the folder of `path` to write to; renames it to `path` on success, removes it on failure.

    The name begins with a dot and keeps the suffixes of `path`, by which writers choose their format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all."""
    with temporary_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
