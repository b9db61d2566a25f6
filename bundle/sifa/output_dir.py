"""The folder that a run writes to, looked at before any long work."""

from __future__ import annotations

from pathlib import Path

from sifa.atomic import temporary_beside
from sifa.errors import InputError


def require_writable(folder: str | Path) -> None:
    """Makes `folder` where it is missing and writes a file to it, which is removed.

    Raises:
        InputError: when that fails.
    """
    probe = Path(folder) / "probe"
    try:
        with temporary_beside(probe) as temporary:
            temporary.write_bytes(bytes(4096))
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: training cannot write there ({error.strerror or error}): make room or give another folder."
        ) from error
