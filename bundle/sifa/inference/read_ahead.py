"""Reads the next scan in a thread while this one is segmented: a processor that computes need not wait for files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from sifa.inference.content_hash import content_hash
from sifa.inference.read_scan import Scan
from sifa.utils.memory import available_memory

FREE = 4  # times the memory that the segmentation of this scan takes has to be free before the next one is read

Item = Mapping[str, Any]  # of `find_scans`
Read = Callable[[Item], Scan]


class ScanAhead(NamedTuple):
    """What is known of a scan when its turn comes."""

    signature: str  # hash of its content, made before it was read
    scan: Scan | None  # None: it was not read


def with_next(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Returns the items of a run, each with the following one as `next`; None for the last."""
    return [{**item, "next": following} for item, following in zip(items, [*items, None][1:], strict=True)]


class ReadAhead:
    """Reads one scan ahead.

    Whatever goes wrong ahead of time is left to the scan's own turn, when it is read as if nothing had been tried.

    Args:
        read: reads a scan.
        enabled: whether to read ahead; never on a single processor core, where there is nothing to win.
    """

    def __init__(self, read: Read, enabled: bool = True) -> None:
        self.read = read
        self.enabled = enabled and _cores() > 1
        self.pool = ThreadPoolExecutor(1)  # starts its thread with the first scan
        self.begun: tuple[Item, Future[ScanAhead]] | None = None

    def take(self, item: Item) -> ScanAhead | None:
        """Returns what was read of this scan ahead of its turn, waiting for the rest of it; None: nothing."""
        begun, self.begun = self.begun, None
        if begun is None:
            return None
        image, future = begun
        error = future.exception()  # waits
        return future.result() if error is None and image["mask"] == item["mask"] else None

    def begin(self, item: Item | None, known: str | None, voxels: int) -> None:
        """Begins to hash and to read a scan, if there is memory for it beside the one that is segmented.

        Args:
            item: the next scan; None: there is none.
            known: its hash when its mask was made; a scan that has not changed since is not read.
            voxels: of the scan that is segmented meanwhile.
        """
        if not self.enabled or item is None or "skipped" in item:
            return
        free = available_memory()
        if free is None or free >= FREE * 2 * voxels:  # 2 bytes a voxel, see `scan_memory`
            self.begun = (item, self.pool.submit(self._read, item, known))

    def _read(self, item: Item, known: str | None) -> ScanAhead:
        signature = content_hash(item)
        if signature == known:
            return ScanAhead(signature, None)
        with torch.inference_mode():  # which holds for one thread
            return ScanAhead(signature, self.read(item))


def _cores() -> int:
    """Returns the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
