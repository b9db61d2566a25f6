"""Checked access to the entries of a JSON object: an error names the file and the entry."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from sifa.utils.errors import InputError


class JsonEntries:
    """The entries of a JSON object of a file that training wrote.

    Each method returns one entry and raises an `InputError` when the entry is missing or has the wrong type or range.

    Args:
        content: the object.
        path: the file, for messages.
        place: the keys that lead to the object, joined by dots; empty at the top level.
    """

    def __init__(self, content: Mapping[str, Any], path: str | Path, place: str = "") -> None:
        self.content = content
        self.path = path
        self.place = place

    def __iter__(self) -> Iterator[str]:
        """Yields the keys."""
        return iter(self.content)

    def __contains__(self, key: object) -> bool:
        """Returns whether there is such an entry."""
        return key in self.content

    def section(self, key: str) -> JsonEntries:
        """Returns the entries of an object."""
        value = self._get(key)
        if not isinstance(value, Mapping):
            self.refuse(key, "an object")
        return JsonEntries(value, self.path, self._name(key))

    def text(self, key: str) -> str:
        """Returns a string."""
        value = self._get(key)
        if not isinstance(value, str):
            self.refuse(key, "a text")
        return value

    def flag(self, key: str) -> bool:
        """Returns true or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def integer(self, key: str, least: int) -> int:
        """Returns an integer of at least `least`."""
        value = self._get(key)
        if type(value) is not int or value < least:
            self.refuse(key, f"an integer of at least {least}")
        return value

    def number(self, key: str) -> float:
        """Returns a finite number."""
        value = self._get(key)
        if not _is_number(value):
            self.refuse(key, "a number")
        return float(value)

    def numbers(self, key: str, count: int | None = None) -> list[float]:
        """Returns a list of `count` finite numbers; None: of at least one."""
        value = self._get(key)
        known = isinstance(value, list | tuple) and all(map(_is_number, value))
        if not known or not value or len(value) != (count or len(value)):
            self.refuse(key, "a list of numbers" if count is None else f"a list of {count} numbers")
        return [float(number) for number in value]

    def refuse(self, key: str, wanted: str) -> NoReturn:
        """Raises the error about an entry that is not what is `wanted`."""
        raise InputError(
            f"{self.path}: {self._name(key)} is {reprlib.repr(self.content[key])}, not {wanted}: copy it again from "
            "the training's output."
        )

    def _get(self, key: str) -> Any:
        if key not in self.content:
            raise InputError(f"{self.path}: it lacks {self._name(key)}: copy it again from the training's output.")
        return self.content[key]

    def _name(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
