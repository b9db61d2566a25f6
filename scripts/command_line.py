"""Runs a script on its command line: options are checked before any work, and bad input ends it with one sentence."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from typing import Any

import fire
from fire.core import FireExit
from sifa.utils.errors import InputError, find_input_error


def run_command_line(main: Callable[..., None]) -> None:
    """Runs `main` with the options on the command line; ends the process with status 2 on bad input.

    python-fire calls a function with the options that it knows and reports unknown ones only afterwards, possibly hours
    later. So it is given a function that only records the call.

    Args:
        main: its parameters are the options, its docstring is the help text.
    """
    calls: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = []

    @functools.wraps(main)
    def note(*values: Any, **options: Any) -> None:
        calls.append((values, options))

    said = io.StringIO()  # the help, or several lines of usage
    asks_for_help = not {"-h", "--help"}.isdisjoint(sys.argv)  # anywhere on the command line
    try:
        with redirect_stderr(said):
            fire.Fire(note, command=["--", "--help"] if asks_for_help else None)
        for values, options in calls:
            main(*values, **options)
    except FireExit as end:
        if end.code:
            _end(f"{end.trace.elements[-1].ErrorAsStr()}: run with --help to see every option.")
        print(said.getvalue(), end="")
    except Exception as error:
        known = find_input_error(error) or error
        if not isinstance(known, InputError | OSError):
            raise
        _end(str(known))


def _end(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)
