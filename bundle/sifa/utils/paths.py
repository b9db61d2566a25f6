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
        InputError: when it cannot be created or written to, or is the bundle's own `models/`.
    """
    if Path(folder).resolve() == Path(bundle_root()).resolve() / "models":
        raise InputError(f"{folder}: it holds the weights of the bundle: give another --output_dir.")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as stream:
            stream.write(bytes(4096))
    except OSError as error:
        raise InputError(
            f"{folder}: it cannot be written to ({error.strerror or error}): make room or give another folder."
        ) from error


def require_other_folder(output_dir: str | Path, model_dir: str | Path) -> None:
    """Refuses to write a model over the one that is read.

    Raises:
        InputError: when both folders are the same.
    """
    if Path(output_dir).resolve() == Path(model_dir).resolve():
        raise InputError(f"{output_dir}: it is --model_dir as well, whose weights would be lost: give another folder.")
