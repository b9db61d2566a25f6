"""Which option of a command an error comes from, where MONAI or another library raised it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ReferenceResolver

from sifa.utils.errors import UsageError, chain_of, first_line, innermost
from sifa.utils.paths import bundle_root


def blame_option(error: BaseException, settings: Mapping[str, Any], config: Mapping[str, Any]) -> UsageError | None:
    """Returns one sentence about the option that a component or an expression of the config cannot take.

    An error within the bundle's own code is blamed on an option only if the option is an argument of the component
    itself (`--inferer#overlap abc`); any other is a fault of the bundle.

    Args:
        error: what ended the command.
        settings: the options of the command, by id.
        config: the config files of the command, merged.
    """
    told = "\n".join(str(part) for part in chain_of(error) if str(part).startswith(("Failed to ", "Cannot locate ")))
    cause = innermost(error)
    frames = traceback.extract_tb(cause.__traceback__)
    within = bool(frames) and Path(frames[-1].filename).is_relative_to(bundle_root())
    for name, value in settings.items():
        own = isinstance(value, str) and repr(value) in told
        if told and (own or _is_argument(name, told, config) or (not within and _is_used(name, told, config))):
            return UsageError(f"--{name} {value}: it cannot be used ({first_line(cause)}).")
    return None


def _is_argument(name: str, told: str, config: Mapping[str, Any]) -> bool:
    """Returns whether an option is an argument of the component that MONAI failed to make."""
    *section, _ = [str(key) for key in ReferenceResolver.split_id(name)]
    node: Any = config
    for key in section:
        node = node[int(key)] if isinstance(node, list) else node.get(key, {})
    return bool(section) and isinstance(node, Mapping) and f"'{node.get('_target_')}'" in told


def _is_used(name: str, told: str, config: Mapping[str, Any]) -> bool:
    """Returns whether the component or expression that MONAI failed to evaluate refers to an option."""
    if f"__local_refs['{name}']" in told:
        return True
    made = [part for part in _components(config) if f"'{part['_target_']}'" in told]
    return any(value == f"@{name}" for part in made for value in part.values())


def _components(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yields all components of a config."""
    if isinstance(node, Mapping) and "_target_" in node:
        yield node
    for value in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _components(value)
