"""Errors of the user, reported in one sentence: the file or setting, what is wrong, and what to do."""

from __future__ import annotations

import sys
from types import TracebackType

INTERRUPTED = 130  # exit status, by the shells' convention: 128 plus the number of the signal SIGINT


class InputError(ValueError):
    """A file, folder or setting that the user gave cannot be used; the message says what to do."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or another signal to stop; the message says what is done and how to continue.

    Args:
        message: the sentence.
        status: the exit status.
    """

    def __init__(self, message: str, status: int = INTERRUPTED) -> None:
        super().__init__(message)
        self.status = status


def find_input_error(error: BaseException | None) -> InputError | None:
    """Returns the `InputError` in the chain of causes of `error`, or None.

    MONAI's config parser wraps a component's errors in `RuntimeError`s, so it may be several causes down.
    """
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__ or error.__context__
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


def report_input_errors_plainly() -> None:
    """Makes this process end with one sentence instead of a traceback on an `InputError` and on Ctrl-C.

    The configs call it as the first item of `run`, and `sifa` itself when a config names a module of version 0.1.0. A
    server that loads the bundle thus keeps its own error handling. Other errors are shown as before. The exit status
    is 1 for any error, 130 after Ctrl-C and 143 after SIGTERM.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            sys.stderr.write(f"error: {str(error) or 'interrupted.'}\n")
            raise SystemExit(error.status if isinstance(error, Interrupted) else INTERRUPTED)
        found = find_input_error(error)
        if found is None:
            previous(kind, error, traceback)
        else:
            sys.stderr.write(f"error: {found}\n")

    sys.excepthook = hook
