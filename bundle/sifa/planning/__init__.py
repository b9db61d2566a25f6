"""Plans: which slices, epochs, batch and matching suit a data set and a machine, and where a training differs."""

from importlib import import_module
from typing import Any

HOMES = {"report_plan": "report", "write_plan": "planner"}  # only `run planning` needs what measures


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(f"sifa.planning.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
