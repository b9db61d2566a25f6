"""Hashes of settings: plain types, and objects by their classes and attributes."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

import numpy as np
import torch


def settings_digest(value: Any) -> str:
    """Returns 16 digits of a hash of classes and attributes, such as those of transforms that have not run yet.

    Args:
        value: plain types, or objects; functions count by their names.
    """

    def plain(part: Any) -> Any:
        return f"{part.__module__}.{part.__qualname__}" if hasattr(part, "__code__") else plain_form(part)

    return hashlib.sha256(json.dumps(value, sort_keys=True, default=plain).encode()).hexdigest()[:16]


def plain_form(value: Any) -> Any:
    """Returns a JSON-serializable form of `value`: for an object, its class and attributes."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, np.random.RandomState):  # nothing that is hashed depends on it
        return None
    return [f"{type(value).__module__}.{type(value).__qualname__}", getattr(value, "__dict__", str(value))]
