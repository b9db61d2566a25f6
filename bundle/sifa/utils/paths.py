"""Where this bundle lies on disk, whatever its folder is called and wherever it is run from."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

from sifa.utils.errors import InputError


def bundle_root() -> str:
    """Returns the folder that holds `configs/`, `models/` and this package."""
    return str(Path(__file__).resolve().parents[2])


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
