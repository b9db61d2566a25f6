"""Checks of command-line options whose wrong values would otherwise go unnoticed."""

from __future__ import annotations

import math

from sifa.utils.errors import UsageError


def require_switches(**switches: object) -> None:
    """Refuses strings that are meant to switch something off: python-fire passes `false` as a string, which is truthy.

    Args:
        **switches: values by name; True in any capitalization, else False or 0.

    Raises:
        UsageError: when a value is another string, such as `false` or `no`.
    """
    for name, value in switches.items():
        if isinstance(value, str) and value.lower() != "true":
            raise UsageError(f"--{name} {value}: write True or False, with a capital letter.")


def require_structures(name: str, values: object, classes: int) -> None:
    """Refuses values that are not the label of a structure.

    Args:
        name: name of the option.
        values: one value or several.
        classes: number of classes, including the background: structures are 1 to classes - 1.

    Raises:
        UsageError: when one of them is not a structure.
    """
    for value in values if isinstance(values, list | tuple) else [values]:
        if type(value) is not int or not 0 < value < classes:
            raise UsageError(f"--{name} {values}: {value!r} is not a structure: choose from 1 to {classes - 1}.")


def require_whole(least: int, **counts: object) -> None:
    """Refuses counts that are no whole number or too small.

    Args:
        least: the smallest count allowed.
        **counts: counts by name; None leaves the choice to the program.

    Raises:
        UsageError: when one of them is not such a number.
    """
    for name, value in counts.items():
        if value is not None and (type(value) is not int or value < least):
            raise UsageError(f"--{name} {value}: give a whole number from {least}.")


def require_positive(**values: object) -> None:
    """Refuses values that are no positive number; None, where an option has no value, passes.

    Raises:
        UsageError: when one of them is not such a number.
    """
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
        if value is not None and not number:
            raise UsageError(f"--{name} {value}: give a positive number.")
