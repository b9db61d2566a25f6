"""Locks between processes of one machine that work on the same folder; a killed process releases them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: without locks
    fcntl = None  # type: ignore[assignment]

PLACES = 2**31 - 1  # bytes of the lock file that stand for names


class FolderLock:
    """Named locks of a folder.

    They lie in a file of the system's folder for temporary files, so that nothing is left in the folder itself.

    Args:
        folder: the folder, which need not exist.
    """

    def __init__(self, folder: Path) -> None:
        user = os.getuid() if hasattr(os, "getuid") else 0
        code = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
        self.path = Path(tempfile.gettempdir()) / f"sifa-{user}-{code}.lock"
        self.stream: IO[bytes] | None = None

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Waits until no other process holds the lock of this name, and holds it during the block."""
        place = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") % PLACES
        with suppress(OSError):  # a file system without locks
            if fcntl is not None:
                if self.stream is None:
                    self.stream = self.path.open("ab")
                fcntl.lockf(self.stream, fcntl.LOCK_EX, 1, place)
        try:
            yield
        finally:
            with suppress(OSError):
                if self.stream is not None:
                    fcntl.lockf(self.stream, fcntl.LOCK_UN, 1, place)
