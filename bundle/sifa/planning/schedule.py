"""Rules for the length of a training and its use of the machine: epochs, batch and worker processes."""

from __future__ import annotations

import math

DRAWS = 4800  # of a domain: compact.yaml, 1,200 iterations of 4 slices, set on ...
SLICES = 638  # ... the slices of a domain of the phantom, 16 subjects
LONGEST = 2.0  # times these draws
WAIT = 0.1  # share of an iteration that waiting for data may take
MEMORY = 0.8  # share of the free memory that a training may take


def drawn_slices(source: int, target: int, source_length: float, target_length: float, matched: bool) -> float:
    """Returns the number of slices that training draws from.

    Args:
        source: slices of the source.
        target: slices of the target.
        source_length: median extent of the source scans across the slices in mm.
        target_length: that of the target scans.
        matched: whether target slices are drawn from a part as long as the source scans.
    """
    return source + target * (min(1.0, source_length / target_length) if matched else 1.0)


def choose_epochs(epochs: int, iterations: int | None, batch: int, slices: float) -> int:
    """Returns the epochs of a training: more than the config's where these are few for the slices.

    The reference is compact.yaml on the phantom: 4,800 slices of each domain are drawn out of 638. Draws grow with the
    square root of the slices, since those of further subjects repeat much of what others show, up to twice as many. A
    config that draws more, as the paper's does, keeps its epochs.

    Args:
        epochs: of the config.
        iterations: of an epoch; None: as many as the slices fill, so that more slices are more iterations anyway.
        batch: slices of each domain in an iteration.
        slices: that training draws from, mean of the domains.
    """
    if iterations is None:
        return epochs
    draws = DRAWS * min(LONGEST, math.sqrt(slices / SLICES))
    return max(epochs, math.floor(draws / (iterations * batch)))


def choose_workers(seconds: float, data_seconds: float, cores: int, on_gpu: bool) -> int:
    """Returns the number of processes that draw and augment slices.

    On a CPU they take the cores that the networks compute on, so there are none unless training would wait for more
    than a tenth of its time. On a GPU there are as many as keep up with it, and one more.

    Args:
        seconds: of an iteration, without its data.
        data_seconds: of the data of an iteration, in one process.
        cores: that this process may use.
        on_gpu: whether the networks compute on a GPU.
    """
    needed = math.ceil(data_seconds / max(seconds, 1e-6))
    if on_gpu:
        return max(1, min(cores - 1, needed + 1))
    return 0 if data_seconds <= WAIT * (seconds + data_seconds) else max(0, min(cores - 1, needed))


def choose_batch(batch: int, needed: float, free: float | None) -> int:
    """Returns the batch that fits: the config's, halved as often as the memory demands.

    Args:
        batch: of the config.
        needed: bytes that a training with this batch takes.
        free: bytes that there are; None: unknown.
    """
    while batch > 1 and free is not None and needed > MEMORY * free:
        batch, needed = batch // 2, needed / 2
    return batch
