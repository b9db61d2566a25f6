"""Options as a command line may give them, where what is wrong would pass without a word."""

from __future__ import annotations

from sifa.utils.errors import InputError


def require_switches(**switches: object) -> None:
    """Refuses texts that are meant to switch something off, since python-fire leaves `false` a text, which is true.

    Args:
        **switches: the values by name. `true` may be written any way; what is off must be False or 0.

    Raises:
        InputError: when one of them is another text, such as `false` or `no`.
    """
    for name, value in switches.items():
        if isinstance(value, str) and value.lower() != "true":
            raise InputError(f"--{name} {value}: only True and False are known here, with capital letters.")


def require_structures(name: str, values: object, classes: int) -> None:
    """Refuses numbers that are no structure's.

    Args:
        name: of the option.
        values: one number or several.
        classes: number of classes, background included: structures are 1 to classes - 1.

    Raises:
        InputError: when one of them is none.
    """
    for value in values if isinstance(values, list | tuple) else [values]:
        if type(value) is not int or not 0 < value < classes:
            raise InputError(f"--{name} {values}: {value!r} is no structure, those are 1 to {classes - 1}.")
