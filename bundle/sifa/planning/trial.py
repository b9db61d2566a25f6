"""A trial: a few iterations of a config on generated slices, in a process of its own, timed and with its memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.engines import IterationEvents
from torch.utils.data import DataLoader

from sifa.data.dataset_json import DatasetDescription
from sifa.data.unpaired_slices import UnpairedSampler, UnpairedSlices
from sifa.fingerprint.fingerprint import Fingerprint

ITERATIONS = 3  # timed ones; one more goes before them
SLICES = 16  # of each domain
LATE = 1000  # the epoch of the trial: all loss terms that join later are there
ENOUGH = 20.0  # seconds of timed iterations after which there are no more


@dataclass(frozen=True)
class Trial:
    """What a trial measured."""

    seconds: float  # of an iteration without its data, median
    data_seconds: float  # of drawing and augmenting the slices of an iteration in one process, median
    forward_seconds: float  # of the exported network on one slice, without gradients
    peak: int  # bytes: of the GPU, or of a process on a CPU
    idle: int  # bytes of these before there were networks

    def scaled(self, factor: float) -> Trial:
        """Returns what a trial with a multiple of the pixels would measure, about."""
        times = (self.seconds * factor, self.data_seconds * factor, self.forward_seconds * factor)
        return Trial(*times, int(self.idle + (self.peak - self.idle) * factor), self.idle)


def run_trial(
    config: Mapping[str, Any],
    dataset: DatasetDescription,
    fingerprint: Fingerprint,
    size: Sequence[int],
    batch: int,
    settings: Mapping[str, Any],
) -> Trial | None:
    """Measures a few iterations of a config.

    Args:
        config: what the command runs, not evaluated; see `sifa.utils.command.config_of_command`.
        dataset: the data set, whose images are not read.
        fingerprint: of the data set, for classes and intensities.
        size: rows and columns of the slices.
        batch: slices of each domain.
        settings: further settings of the config by id that replace its own.

    Returns:
        The measurement, or None when the memory does not suffice.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            return process.submit(
                measure, deepcopy(dict(config)), dataset, fingerprint, list(size), batch, dict(settings)
            ).result()
        except (BrokenProcessPool, torch.OutOfMemoryError, MemoryError):
            return None


def measure(
    config: dict[str, Any],
    dataset: DatasetDescription,
    fingerprint: Fingerprint,
    size: list[int],
    batch: int,
    settings: dict[str, Any],
) -> Trial:
    """Measures a few iterations in this process; the arguments are those of `run_trial`."""
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    idle = _peak("cpu")
    rows, columns = size
    fingerprint = replace(fingerprint, slice_size=(rows, columns), source_size=(rows, columns))
    parser = ConfigParser(config)
    parser.update(settings)
    parser.update({"slice_size": size, "batch_size": batch, "fingerprint": fingerprint, "dataset_description": dataset})
    slices = generated_slices(parser, fingerprint, size)
    parser.update({"train#dataset": slices})
    device = torch.device(parser.get_parsed_content("device"))
    update = parser.get_parsed_content("train#iteration_update")
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.state.device, engine.state.epoch = device, LATE  # type: ignore[attr-defined]
    sampler = UnpairedSampler(slices, batch, ITERATIONS + 1)
    loader = iter(DataLoader(slices, batch_size=batch, sampler=sampler, drop_last=True))
    seconds: list[float] = []
    waits: list[float] = []
    while len(seconds) <= ITERATIONS and sum(seconds) < ENOUGH:
        started = time.perf_counter()
        data = next(loader)
        drawn = time.perf_counter()
        update(engine, data)
        _finish(device)
        waits.append(drawn - started)
        seconds.append(time.perf_counter() - drawn)
    timed = slice(1, None) if len(seconds) > 1 else slice(None)
    forward = _time_forward(parser.get_parsed_content("exported_network"), fingerprint, size, batch, device)
    return Trial(
        statistics.median(seconds[timed]),
        statistics.median(waits[timed]),
        forward / batch,
        _peak(device.type),
        idle if device.type == "cpu" else 0,
    )


def generated_slices(parser: ConfigParser, fingerprint: Fingerprint, size: Sequence[int]) -> UnpairedSlices:
    """Returns slices of noise of the domains that a config trains on, augmented as the config does it."""
    classes, channels = fingerprint.network.out_channels, fingerprint.network.in_channels

    def generate(item: Any) -> dict[str, torch.Tensor]:
        image = torch.rand(channels, *size, SLICES, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return {"image": image, "label": ((image[:1] + 1) / 2 * classes).int().clamp(max=classes - 1)}

    one = [{"image": "generated", "label": "generated"}]
    needs_source = bool(parser.get_parsed_content("needs_source"))
    return UnpairedSlices(
        one if needs_source else [],
        generate,
        one if parser.get_parsed_content("target_training") else [],
        generate,
        parser.get_parsed_content("train#augmentation"),
        labeled_target_data=one if parser.get_parsed_content("labeled_target") else [],
        labeled_target_preprocessing=generate,
        needs_source=needs_source,
    )


def _time_forward(
    network: torch.nn.Module, fingerprint: Fingerprint, size: Sequence[int], batch: int, device: torch.device
) -> float:
    """Returns the seconds of one batch without gradients."""
    images = torch.zeros(batch, fingerprint.network.in_channels, *size, device=device)
    network.eval()
    with torch.no_grad():
        network(images)
        _finish(device)
        started = time.perf_counter()
        network(images)
        _finish(device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(kind: str) -> int:
    """Returns the most memory in bytes that this process has taken on a kind of device."""
    if kind == "cuda":
        return int(torch.cuda.max_memory_reserved())
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
