"""Memory available to this process: free memory of the machine and limits of its control groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from sifa.utils.errors import InputError

GIB = 2**30  # bytes
CGROUPS = Path("/sys/fs/cgroup")
USAGES = (  # of a group: limit, use, and the entry of memory.stat that the kernel gives back when it needs to
    ("memory.max", "memory.current", "inactive_file"),  # version 2
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
)
USABLE = 0.9  # share of the free memory that one scan may take


def available_memory(proc: Path = Path("/proc"), cgroups: Path = CGROUPS) -> int | None:
    """Returns the bytes that this process can still allocate, or None if unknown.

    That is the least of what the machine has available and what each control group around this process, such as a
    container's, leaves of its limit. File pages that the kernel can drop count as free.

    Args:
        proc: where the kernel describes processes and memory.
        cgroups: where control groups are mounted.
    """
    known = [*_of_machine(proc / "meminfo"), *_of_groups(proc / "self" / "cgroup", cgroups)]
    return min(known) if known else None


def scan_memory(shape: Sequence[int], voxel_bytes: int) -> int:
    """Returns the bytes that a scan of a shape takes while it is segmented: its voxels, its mask and what they need."""
    return math.prod(shape) * (voxel_bytes + 2)


def require_memory(path: Path | str, needed: int) -> None:
    """Refuses a scan that does not fit into memory, before it is read: the kernel would end the process.

    Args:
        path: the scan.
        needed: bytes that it takes.

    Raises:
        InputError: when less is free.
    """
    free = available_memory()
    if free is not None and needed > USABLE * free:
        raise InputError(
            f"{path}: its header declares a volume that takes {needed / GIB:.1f} GiB of memory, and "
            f"{max(free, 0) / GIB:.1f} GiB are free: check the header, crop or split the scan, or use a larger machine."
        )


def _of_machine(meminfo: Path) -> Iterator[int]:
    with suppress(OSError, ValueError, IndexError):
        for line in meminfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _of_groups(membership: Path, cgroups: Path) -> Iterator[int]:
    """Yields what the groups of this process leave of their limits."""
    names = {""}
    with suppress(OSError):
        for line in membership.read_text(encoding="utf-8").splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers in ("", "memory"):
                names.add(name.strip("/"))
    folders = {
        root / parent
        for root in (cgroups, cgroups / "memory")
        for name in names
        for parent in (Path(name), *Path(name).parents)
    }
    for folder in sorted(folders):
        for limit, used, freed in USAGES:
            with suppress(OSError, ValueError):  # no such group, or its limit is "max"
                left = int((folder / limit).read_text(encoding="utf-8")) - int(
                    (folder / used).read_text(encoding="utf-8")
                )
                yield left + _entry(folder / "memory.stat", freed)


def _entry(statistics: Path, name: str) -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in statistics.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0
