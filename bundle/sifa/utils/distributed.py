"""Communication between the processes of distributed training; with one process, values are returned unchanged.

`torchrun` starts the processes and `multi_gpu_train.yaml` joins them (NCCL on GPUs, gloo on CPUs). Each optimizer step
averages its gradients here. `DistributedDataParallel` cannot do that: it expects one backward pass through everything
that its wrapper's forward pass computed, whereas E and U serve several updates from one graph, each update takes the
gradients of its own networks only, and E and C are called separately.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn

from sifa.utils.errors import InputError


def process_device() -> torch.device:
    """Returns the GPU that torchrun assigned to this process, or the CPU if there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def join_processes(device: torch.device, timeout: float) -> None:
    """Joins the processes that torchrun started.

    Args:
        device: device of this process; GPUs communicate through NCCL, CPUs through gloo.
        timeout: hours to wait for the other processes, when joining and later.

    Raises:
        InputError: when torchrun did not start this process, or no GPU is left for it.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        raise InputError(
            "multi_gpu_train.yaml is for several processes: start it with torchrun --nproc_per_node N -m monai.bundle "
            "run training ..., or leave that overlay out."
        )
    if device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise InputError(f"{device}: only {torch.cuda.device_count()} GPUs found: lower --nproc_per_node to that.")
    hook = sys.excepthook
    if device.type == "cpu":
        distributed.init_process_group("gloo", timeout=timedelta(hours=timeout))
    else:
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", timeout=timedelta(hours=timeout), device_id=device)
    sys.excepthook = hook  # torch's replacement loses the message of a hook that raises SystemExit, as ours does


def world_size() -> int:
    """Returns the number of processes."""
    return distributed.get_world_size() if _is_joined() else 1


def rank() -> int:
    """Returns the rank of this process, from 0."""
    return distributed.get_rank() if _is_joined() else 0


def is_main_process() -> bool:
    """Returns whether this is the process that writes, logs and shows progress."""
    return rank() == 0


def wait_for_all() -> None:
    """Returns once every process has called it."""
    if world_size() > 1:
        distributed.barrier()


def share_weights(modules: Iterable[nn.Module]) -> None:
    """Copies the main process's parameters and buffers to all processes, so that they start from the same weights."""
    if world_size() > 1:
        for module in modules:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, src=0)


def broadcast_object(value: Any) -> Any:
    """Returns the main process's `value`, which must be picklable, on every process."""
    values = [value]
    if world_size() > 1:
        distributed.broadcast_object_list(values, src=0)
    return values[0]


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Returns, on every process, the sum of all processes' tensors; gradients flow back to all of them.

    A loss of such sums is the same on all processes. With gradients averaged by `average_gradients`, it updates weights
    as one process with all the data would.
    """
    return tensor if world_size() == 1 else _Sum.apply(tensor)


def average_gradients(gradients: Iterable[torch.Tensor]) -> None:
    """Replaces gradients by their means over all processes, in place and in one communication."""
    if world_size() == 1:
        return
    parts = list(gradients)
    together = torch.cat([part.reshape(-1) for part in parts])
    distributed.all_reduce(together)
    together /= world_size()
    for part, mean in zip(parts, together.split([part.numel() for part in parts]), strict=True):
        part.copy_(mean.view_as(part))


def mean_over_processes(scalars: Mapping[str, torch.Tensor], device: torch.device | str) -> dict[str, torch.Tensor]:
    """Returns the means of scalars over all processes, so that all processes act on the same values.

    Args:
        scalars: scalars with the same names on every process, on any device.
        device: device through which the processes communicate.
    """
    if world_size() == 1:
        return dict(scalars)
    together = torch.stack([value.detach().to(device, torch.float64) for value in scalars.values()])
    distributed.all_reduce(together)
    means = together / world_size()
    return {name: mean.to(value.dtype) for (name, value), mean in zip(scalars.items(), means, strict=True)}


def all_reduce_max(value: int, device: torch.device | str) -> int:
    """Returns the largest `value` of all processes, which communicate through `device`."""
    if world_size() == 1:
        return value
    shared = torch.tensor(value, device=device)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    return int(shared.item())


def any_process(flag: bool, device: torch.device | str) -> bool:
    """Returns whether `flag` is set on at least one process; they communicate through `device`."""
    return bool(all_reduce_max(int(flag), device))


class _Sum(torch.autograd.Function):
    """Sums in both directions: the loss of each process depends on every process's part of the sum."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return _reduced(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _reduced(gradient)


def _reduced(tensor: torch.Tensor) -> torch.Tensor:
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def _is_joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
