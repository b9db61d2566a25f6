"""Atomic writing of files: under a temporary name, then renamed, so that no file is ever incomplete."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from sifa.utils.errors import InputError, first_line

CHUNK = 1 << 20  # bytes read at once
HOST = f"{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}-"  # only processes of this machine can be checked


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; renames it to `path` on success, removes it on failure.

    Its name begins with a dot and keeps the suffix of `path`, by which writers choose their format. Temporary files of
    the same `path` that killed processes of this machine left are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{HOST}{os.getpid()}.{_ending(path)}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def hash_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content, 64 hexadecimal digits; the file is read in parts.

    Raises:
        OSError: when it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically."""
    with temporary_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes `content` as JSON to `path` atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def _ending(path: Path) -> str:
    """Returns the ending of temporary names of `path`: unique to it, and short even if its name is long."""
    suffix = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
    return f"{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}{suffix}"


def _remove_leftovers(path: Path) -> None:
    ending = _ending(path)
    for file in path.parent.glob(f".{HOST}*.{escape(ending)}"):
        process = file.name[1 + len(HOST) : -len(ending) - 1]
        if process.isdigit() and not _is_running(int(process)):
            file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Returns whether a process exists; always True on Windows, where asking would end it."""
    if os.name == "nt":
        return True
    with suppress(PermissionError):  # another user's process
        try:
            os.kill(process, 0)  # signal 0 only checks
        except (ProcessLookupError, OverflowError):
            return False
    return True


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an `OSError`, such as of a full disk or a missing permission, into one sentence about `path`.

    Raises:
        InputError: when the block raises an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: it cannot be written ({first_line(error)}): make room or choose another --output_dir."
        ) from error
