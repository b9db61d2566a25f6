"""Switches of the configs as a command line may give them."""

from __future__ import annotations

from sifa.errors import InputError


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
