"""The location of this bundle on disk, and a check that a folder is writable."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

from sifa.utils.errors import InputError


def bundle_root() -> str:
    """Returns the folder with `configs/`, `models/` and this package."""
    return str(Path(__file__).resolve().parents[2])


def require_writable(folder: str | Path) -> None:
    """Creates `folder` if it is missing and checks that files can be written to it.

    Raises:
        InputError: when it cannot be created or written to.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as stream:
            stream.write(bytes(4096))
    except OSError as error:
        raise InputError(
            f"{folder}: it cannot be written to ({error.strerror or error}): make room or give another folder."
        ) from error
