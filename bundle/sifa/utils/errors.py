"""How wrong input is reported: one clear sentence that names the file, what is wrong and what to do."""

from __future__ import annotations

import sys
from types import TracebackType

INTERRUPTED = 130  # exit status, as shells have it: 128 and the number of the signal, here SIGINT


class InputError(ValueError):
    """Something that the user gave (a file, a folder, a setting) cannot be used; the message says what to do."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or another signal to stop; the message says how far the work has come and how to go on.

    Args:
        message: the sentence.
        status: the exit status.
    """

    def __init__(self, message: str, status: int = INTERRUPTED) -> None:
        super().__init__(message)
        self.status = status


def find_input_error(error: BaseException | None) -> InputError | None:
    """Returns the `InputError` in the chain of causes of `error`, or None.

    MONAI's config parser wraps what a component raises in a `RuntimeError`, so the sentence is found one or more
    causes down.
    """
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__ or error.__context__
    return None


def innermost(error: BaseException) -> BaseException:
    """Returns the first cause of `error`, which says best what went wrong; MONAI wraps it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first_line(error: BaseException) -> str:
    """Returns an error in one line: its type and the first line of its message, without a full stop."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def report_input_errors_plainly() -> None:
    """Makes this process end with one sentence instead of a traceback on an `InputError` and on Ctrl-C.

    The configs call it as the first item of `run`; nothing else does, so a server that loads the bundle keeps its own
    error handling. Every other error is shown as before. The exit status is 1 either way, 130 after Ctrl-C and 143
    after SIGTERM.
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
