"""Checks of command-line options whose wrong values would otherwise go unnoticed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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


def names_of(option: str, value: object) -> list[Any]:
    """Returns the values of an option that takes one or several.

    python-fire reads `[a,b]` as a list only where each part looks like a name or a number, so that a list of paths or
    of names with spaces arrives as text.

    Args:
        option: its name, for the message.
        value: one value, a list, or the text of a list.

    Raises:
        UsageError: when there is no value.
    """
    if isinstance(value, str) and value[:1] == "[" and value[-1:] == "]":
        value = [part.strip().strip("'\"") for part in value[1:-1].split(",")]
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values or any(one is None or one == "" for one in values):
        raise UsageError(f"--{option} {value}: give at least one value, and no empty one.")
    return values


def structure_values(option: str, structures: object, labels: Mapping[int, str]) -> list[int]:
    """Returns the values of structures that are given by value or by name.

    Args:
        option: name of the option, for the message.
        structures: values or names, in any case; one or several; None or an empty list: none.
        labels: names by value, without the background.

    Raises:
        UsageError: when one of them is not a structure.
    """
    if structures is None or structures in ([], ()):
        return []
    by_name = {name.lower(): value for value, name in labels.items()} | {name: value for value, name in labels.items()}
    values = []
    for one in names_of(option, structures):
        value = one
        if isinstance(one, str):
            value = by_name.get(one, by_name.get(one.lower(), int(one) if one.isdecimal() else None))
        if type(value) is not int or value not in labels:
            known = ", ".join(f"{value} ({name})" for value, name in labels.items())
            raise UsageError(f"--{option} {structures}: {one!r} is not a structure: choose from {known}.")
        values.append(value)
    return values


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
