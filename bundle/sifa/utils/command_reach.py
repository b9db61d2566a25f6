"""Which entries of a config a run uses: those that its items refer to, directly or through others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle import ReferenceResolver


def used_entries(config: Mapping[str, Any], *starts: str) -> set[str]:
    """Returns the ids of all entries that some entries of a config refer to, themselves included.

    Args:
        config: a merged config, not evaluated.
        starts: ids to begin with, such as the run.
    """
    used: set[str] = set()
    pending = [start for start in starts if start in config]
    while pending:
        name = pending.pop()
        if name not in used:
            used.add(name)
            pending += _references(_entry(config, name))
    return used


def is_used(name: str, used: set[str]) -> bool:
    """Returns whether an option is within an entry that is used, or holds one."""
    keys = [str(key) for key in ReferenceResolver.split_id(name)]
    inside = {"::".join(keys[: length + 1]) for length in range(len(keys))}
    return bool(inside & used) or any(entry.startswith(f"{'::'.join(keys)}::") for entry in used)


def _entry(config: Any, name: str) -> Any:
    for key in ReferenceResolver.split_id(name):
        try:
            config = config[int(key)] if isinstance(config, list) else config[key]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return config


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield from ReferenceResolver.match_refs_pattern(node)
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
