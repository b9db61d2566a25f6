"""The machine that a training runs on: its processor or GPU, its cores and its free memory."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from sifa.utils.memory import available_memory


@dataclass(frozen=True)
class Machine:
    """What a plan needs to know of a machine."""

    name: str  # for people
    on_gpu: bool
    cores: int  # that this process may use
    free: int | None  # bytes on the device that the networks compute on; None: unknown
    free_ram: int | None  # bytes of the machine, which hold the slices; None: unknown


def describe_machine(device: str | torch.device) -> Machine:
    """Returns what there is to compute on.

    Args:
        device: that the networks compute on.
    """
    device = torch.device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ram = available_memory()
    if device.type != "cuda":
        threads = torch.get_num_threads()
        return Machine(
            f"{threads} of {cores} CPU cores ({torch.backends.cpu.get_cpu_capability()})", False, cores, ram, ram
        )
    return Machine(torch.cuda.get_device_name(device), True, cores, int(torch.cuda.mem_get_info(device)[0]), ram)
