"""Checks of command-line options whose wrong values would otherwise go unnoticed."""

from __future__ import annotations

from sifa.utils.errors import InputError


def require_switches(**switches: object) -> None:
    """Refuses strings that are meant to switch something off: python-fire passes `false` as a string, which is truthy.

    Args:
        **switches: values by name; True in any capitalization, else False or 0.

    Raises:
        InputError: when a value is another string, such as `false` or `no`.
    """
    for name, value in switches.items():
        if isinstance(value, str) and value.lower() != "true":
            raise InputError(f"--{name} {value}: write True or False, with a capital letter.")


def require_structures(name: str, values: object, classes: int) -> None:
    """Refuses values that are not the label of a structure.

    Args:
        name: name of the option.
        values: one value or several.
        classes: number of classes, including the background: structures are 1 to classes - 1.

    Raises:
        InputError: when one of them is not a structure.
    """
    for value in values if isinstance(values, list | tuple) else [values]:
        if type(value) is not int or not 0 < value < classes:
            raise InputError(f"--{name} {values}: {value!r} is not a structure: choose from 1 to {classes - 1}.")
