"""Locks between processes that work on the same folder; a killed process releases them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: without locks
    fcntl = None  # type: ignore[assignment]

NAME = ".sifa.lock"
PLACES = 2**31 - 1  # lock offsets: each name is hashed to one byte of the lock file


class FolderLock:
    """Named locks of a folder, in its file `.sifa.lock`.

    Args:
        folder: the folder, which need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.stream: IO[bytes] | None = None

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Waits until no other process holds the lock of this name, and holds it during the block."""
        place = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") % PLACES
        with suppress(OSError):  # a file system without locks
            if fcntl is not None:
                if self.stream is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self.stream = self.path.open("ab")
                fcntl.lockf(self.stream, fcntl.LOCK_EX, 1, place)
        try:
            yield
        finally:
            with suppress(OSError):
                if self.stream is not None:
                    fcntl.lockf(self.stream, fcntl.LOCK_UN, 1, place)
