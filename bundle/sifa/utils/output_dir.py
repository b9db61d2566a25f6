"""The folder that a run writes to, looked at before any long work."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

from sifa.utils.errors import InputError


def require_writable(folder: str | Path) -> None:
    """Makes `folder` where it is missing and writes to a file in it that has no name.

    Raises:
        InputError: when that fails.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as stream:
            stream.write(bytes(4096))
    except OSError as error:
        raise InputError(
            f"{folder}: nothing can be written there ({error.strerror or error}): make room or give another folder."
        ) from error
