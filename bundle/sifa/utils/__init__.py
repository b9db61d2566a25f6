"""Errors, files, paths, options and processes, for use by every other subpackage."""

from sifa.utils.digest import settings_digest
from sifa.utils.distributed import join_processes, process_device, share_weights
from sifa.utils.errors import report_input_errors_plainly
from sifa.utils.options import require_structures, require_switches
from sifa.utils.paths import bundle_root, require_writable
from sifa.utils.run_warnings import collect_warnings

__all__ = [
    "bundle_root",
    "collect_warnings",
    "join_processes",
    "process_device",
    "report_input_errors_plainly",
    "require_structures",
    "require_switches",
    "require_writable",
    "settings_digest",
    "share_weights",
]
