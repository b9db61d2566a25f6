"""How handlers say that a file of the run cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sifa.utils.errors import InputError, first_line


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes the error of a full disk or of a folder that is closed to us one sentence about `path`.

    Raises:
        InputError: when the block raises an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: it cannot be written ({first_line(error)}): make room or choose another --output_dir."
        ) from error
