"""Errors of the user, reported in one sentence: the file or setting, what is wrong, and what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from types import TracebackType

USAGE = 2  # exit status of an invalid command
INTERRUPTED = 130  # exit status, by the shells' convention: 128 plus the number of the signal SIGINT


class InputError(ValueError):
    """A file, folder or setting that the user gave cannot be used; the message says what to do."""


class UsageError(InputError):
    """The command line is invalid, for example because of a misspelled option; no work has started."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or another signal to stop; the message says what is done and how to continue.

    Args:
        message: the sentence.
        status: the exit status.
    """

    def __init__(self, message: str, status: int = INTERRUPTED) -> None:
        super().__init__(message)
        self.status = status


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yields `error` and its causes; MONAI's config parser wraps a component's error in several `RuntimeError`s."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def find_input_error(error: BaseException | None) -> InputError | None:
    """Returns the `InputError` in the chain of causes of `error`, or None."""
    return next((part for part in chain_of(error) if isinstance(part, InputError)), None)


def missing_package(error: BaseException) -> UsageError | None:
    """Returns one sentence about a package that is not installed, if that is what `error` comes from."""
    for part in chain_of(error):
        name = re.search(r"No module named '(\w+)", str(part)) if isinstance(part, ImportError) else None
        if name is not None and name[1] != "sifa":
            package = {"skimage": "scikit-image", "ignite": "pytorch-ignite", "PIL": "pillow"}.get(name[1], name[1])
            return UsageError(f"{name[1]} is not installed: pip install {package}, or leave out what needs it.")
    return None


def innermost(error: BaseException) -> BaseException:
    """Returns the original cause of `error`, which is the most informative one; MONAI wraps it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first_line(error: BaseException) -> str:
    """Returns an error as one line: its type and the first line of its message, without the final period."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def write_plainly(error: BaseException) -> bool:
    """Writes one sentence to stderr about an error that the user can fix, or about an interruption.

    Returns:
        False when it is an error of another kind, about which nothing is written.

    Raises:
        SystemExit: when the exit status is not 1: 2 for a `UsageError`, 130 after Ctrl-C, 143 after SIGTERM.
    """
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write(f"error: {str(error) or 'interrupted.'}\n")
        raise SystemExit(error.status if isinstance(error, Interrupted) else INTERRUPTED)
    found = find_input_error(error) or missing_package(error)
    if found is None:
        return False
    sys.stderr.write(f"error: {found}\n")
    if isinstance(found, UsageError):
        raise SystemExit(USAGE)
    return True


def report_input_errors_plainly() -> None:
    """Makes this process end with one sentence instead of a traceback on an `InputError` and on Ctrl-C.

    The configs call it as the first item of `run`, and `sifa` itself when a config names a module of version 0.1.0. A
    server that loads the bundle thus keeps its own error handling. Other errors are shown as before. The exit status
    is 1 for an error, 2 for an invalid command line, 130 after Ctrl-C and 143 after SIGTERM.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not write_plainly(error):
            previous(kind, error, traceback)

    sys.excepthook = hook
