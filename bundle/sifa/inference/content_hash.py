"""The identity of a scan: a hash of what is in its files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sifa.io.formats import files_of
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file


def content_hash(item: Mapping[str, Any]) -> str:
    """Returns a hash of the content of a scan's files, in slice order, and of warnings about files beside it.

    Names and times do not matter: another patient's file of the same name, size and time is another scan.

    Args:
        item: of `find_scans`.

    Raises:
        InputError: when a file cannot be read.
    """
    image = Path(item["image"])
    try:
        files = [Path(file) for file in item.get("files") or files_of(image)]
        if not all(file.is_file() for file in files if file.exists()):  # a pipe or a device may never end
            raise InputError("it is neither a file nor a folder: remove it.")
        parts = [hash_of_file(file) for file in files]
    except OSError as error:
        raise InputError(f"it cannot be opened ({error.strerror}): check the file or where the link leads.") from error
    return hashlib.sha256("\n".join([*parts, *item.get("warnings", [])]).encode()).hexdigest()[:32]
