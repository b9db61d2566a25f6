"""Codes and colors of structures: of `configs/terminology.yaml`, and of the data set's own `terminology`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydicom.sr.coding import Code

from sifa.utils.errors import InputError, first_line
from sifa.utils.paths import bundle_root

TERMINOLOGY = Path(bundle_root()) / "configs" / "terminology.yaml"
ROLES = ("category", "type", "modifier")
LONGEST = (16, 16, 64)  # characters of a code's value, scheme and meaning
GENERIC = {  # a structure that the terminology does not list
    "category": Code("123037004", "SCT", "Anatomical Structure"),
    "type": Code("91723000", "SCT", "Anatomical structure"),
}
COLOR = re.compile(r"#[0-9a-fA-F]{6}")


class Terms(NamedTuple):
    """How a structure is coded in DICOM objects, and its color where the data set gives one."""

    category: Code
    type: Code
    modifier: Code | None = None  # of a paired organ: its side
    color: str | None = None  # #rrggbb


def structure_terms(
    labels: Mapping[int, str], own: Mapping[str, Mapping[str, Any]] | None = None, path: Path | str = TERMINOLOGY
) -> dict[int, Terms]:
    """Returns codes and colors of structures by label.

    Args:
        labels: name of each label; 0, the background, is left out.
        own: what `check_terms` returned, by name; its codes replace those of the file.
        path: YAML from structure to codes.

    Raises:
        InputError: when the file cannot be read or an entry is not of its form.
    """
    known = read_terminology(path)
    terms = {}
    for label, name in labels.items():
        entry = (own or {}).get(name, {})
        codes = known.get(name.lower(), GENERIC)
        if "type" in entry:
            codes = {"category": GENERIC["category"], **{role: Code(*entry[role]) for role in ROLES if role in entry}}
        if label != 0:
            terms[label] = Terms(codes["category"], codes["type"], codes.get("modifier"), entry.get("color"))
    return terms


def check_terms(content: Any, labels: Mapping[int, str], place: str) -> dict[str, dict[str, Any]]:
    """Checks the `terminology` of a data set or fingerprint.

    Args:
        content: an object by structure, in any case, with a `color`, `#rrggbb`, or the codes `type`, `category` and
            `modifier`, each as `["value", "scheme", "meaning"]`, or both; a `category` is optional.
        labels: names by value.
        place: where it stands, for messages.

    Returns:
        The same, by name as in `labels`.

    Raises:
        InputError: when it is not of this form.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{place} is not an object: write color and codes by the name of each structure.")
    names = {name.lower(): name for value, name in labels.items() if value != 0}
    terms = {}
    for key, entry in content.items():
        if str(key).lower() not in names:
            raise InputError(f"{place}: {key!r} is no structure: choose from {', '.join(names.values())}.")
        if not isinstance(entry, Mapping) or not entry or not set(entry) <= {"color", *ROLES}:
            raise InputError(f"{place}: {key!r} is not an object with color, type, category or modifier.")
        if "type" not in entry and set(entry) & set(ROLES):
            raise InputError(f"{place}: {key!r} needs a type where it has a category or a modifier.")
        color = entry.get("color", "#000000")
        if not isinstance(color, str) or not COLOR.fullmatch(color):
            raise InputError(f'{place}: the color of {key!r} is {color!r}: write it as "#rrggbb", such as "#dd8265".')
        for role in set(ROLES) & set(entry):
            _check_code(entry[role], role, f"{place}: {key!r}")
        terms[names[str(key).lower()]] = {part: _plain(entry[part]) for part in ("color", *ROLES) if part in entry}
    return terms


def _plain(part: Any) -> Any:
    return part.lower() if isinstance(part, str) else list(part)


def read_terminology(path: Path | str = TERMINOLOGY) -> dict[str, dict[str, Code]]:
    """Reads the codes of structures: by name in lower case, `category`, `type` and for paired organs `modifier`.

    Raises:
        InputError: when the file cannot be read or an entry is not of that form.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: the terminology cannot be read ({first_line(error)}): restore the file.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: write a structure's name and its codes in each entry.")
    return {str(name).lower(): _read_codes(entry, f"{path}: {name!r}") for name, entry in content.items()}


def _read_codes(entry: Any, place: str) -> dict[str, Code]:
    if not isinstance(entry, dict) or not {"category", "type"} <= set(entry) <= set(ROLES):
        raise InputError(f"{place} needs a category and a type, and may have a modifier.")
    for role, code in entry.items():
        _check_code(code, role, place)
    return {role: Code(*code) for role, code in entry.items()}


def _check_code(code: Any, role: str, place: str) -> None:
    is_code = isinstance(code, list | tuple) and len(code) == 3 and all(isinstance(part, str) and part for part in code)
    if not is_code or any(len(part) > longest for part, longest in zip(code, LONGEST, strict=True)):
        raise InputError(
            f"{place}: write {role} as ['value', scheme, meaning], the value in quotes, of up to "
            f"{', '.join(map(str, LONGEST))} characters."
        )
