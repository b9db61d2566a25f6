"""The environment of a run: versions, machine, command and code, to explain later why two runs differ."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import Any

import ignite
import monai
import numpy as np
import torch

import sifa
from sifa.utils.distributed import world_size
from sifa.utils.paths import bundle_root

TIMEOUT_S = 10  # seconds to wait for git


def describe_environment(device: torch.device | str) -> dict[str, Any]:
    """Returns the environment of a run that starts now, in types that JSON has.

    Args:
        device: of the networks.
    """
    return {
        "command": sys.argv,
        "versions": {
            "sifa": sifa.__version__,
            "monai": monai.__version__,
            "torch": str(torch.__version__),
            "ignite": ignite.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "platform": platform.platform(),
        "device": str(device),
        "device_name": _device_name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "git": describe_code(),
    }


def describe_code() -> dict[str, Any] | None:
    """Returns the git revision of the bundle's checkout and whether its files differ from it; None without a checkout.

    A checkout whose revision does not hold this package, such as one around a copy of the bundle, does not count.
    """
    revision = _git("rev-parse", "HEAD", "HEAD:./sifa")  # fails where the revision has no such folder
    changes = _git("--no-optional-locks", "status", "--porcelain", ".")
    if revision is None or changes is None:
        return None
    return {"revision": revision.split()[0], "modified": bool(changes)}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _git(*arguments: str) -> str | None:
    """Returns the output of a git command in the bundle's folder; None when it fails or git is not installed."""
    command = ["git", "-C", bundle_root(), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
