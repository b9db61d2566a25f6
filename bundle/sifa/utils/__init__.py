"""Errors, files, paths, options and processes, for use by every other subpackage."""

from importlib import import_module
from typing import Any

HOMES = {  # modules of the names that configs use; each is loaded only where its name is asked for
    "bundle_root": "paths",
    "check_command": "command_checks",
    "collect_warnings": "run_warnings",
    "config_of_command": "command",
    "join_processes": "distributed",
    "process_device": "distributed",
    "report_error": "command_checks",
    "report_input_errors_plainly": "errors",
    "require_device": "devices",
    "require_other_folder": "paths",
    "require_positive": "options",
    "require_switches": "options",
    "require_whole": "options",
    "require_writable": "paths",
    "settings_digest": "digest",
    "share_weights": "distributed",
    "structure_values": "options",
}


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(f"sifa.utils.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
