"""A check that a device exists, before anything is loaded to it."""

from __future__ import annotations

import torch

from sifa.utils.errors import UsageError


def require_device(device: object) -> None:
    """Refuses a device that this machine does not have.

    Args:
        device: a `torch.device`, or what one is made of: a name or the number of a GPU.

    Raises:
        UsageError: when there is no such device.
    """
    try:
        torch.empty(1, device=device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {device}: there is no such device here: choose {', '.join(devices())}.") from error


def devices() -> list[str]:
    """Returns the names of the devices of this machine."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
