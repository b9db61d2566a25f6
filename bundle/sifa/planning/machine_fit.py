"""Fits the size of slices, the batch and the workers to the time and the memory of a machine, by trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sifa.planning.estimate import Estimate, estimate
from sifa.planning.machine import Machine
from sifa.planning.plan import View, wanted_pixels
from sifa.planning.schedule import MEMORY, choose_batch, choose_workers
from sifa.planning.slices import ENOUGH, FINE, SMALLEST, STEP, Pixels, pixels_of
from sifa.planning.trial import Trial

COMPACT = 0.25**2 * 64 * 64 * 4  # work of an iteration of compact.yaml
LARGE = 20  # times that work: on a CPU an iteration takes long, and smaller slices are timed in its place

Measure = Callable[[Pixels, int], Trial | None]  # of slices and a batch; None: the memory does not suffice


@dataclass(frozen=True)
class Fit:
    """Slices, batch and workers that fit a machine."""

    pixels: Pixels
    wanted: Pixels  # what the data call for
    batch: int
    workers: int | None  # None: not measured
    trial: Trial | None  # with slices of `pixels` and this batch; None: not measured
    estimate: Estimate | None


def fit_machine(
    view: View, machine: Machine, measure: Measure | None, settings: Mapping[str, Any], width: float, minutes: float
) -> Fit:
    """Returns the largest slices up to those that the data call for with which a training takes no longer than it may.

    On a CPU the narrowest structure should be 2.5 latents wide, on a GPU 5. The slices are made smaller, down to 64
    pixels, where the trial says that the training takes longer than `minutes`.

    Args:
        view: what the data show.
        machine: what there is to compute on.
        measure: runs a trial; None: there is none, and the data alone decide.
        settings: the plan so far, see `sifa.planning.estimate.estimate`.
        width: factor on the channels of the networks.
        minutes: that a training may take.
    """
    batch = int(settings["batch_size"])
    wanted = wanted_pixels(view, FINE if machine.on_gpu else ENOUGH)
    if measure is None:
        return Fit(wanted, wanted, batch, None, None, None)
    work = width**2 * _count(wanted) * batch
    probe = wanted if machine.on_gpu or work <= LARGE * COMPACT else pixels_of(view.field, SMALLEST)
    trial = measure(probe, batch)
    while trial is None and batch > 1:
        batch //= 2
        trial = measure(probe, batch)
    if trial is None:
        return Fit(wanted, wanted, batch, None, None, None)

    def estimated(pixels: Pixels, measured: Trial) -> Estimate:
        workers = choose_workers(measured.seconds, measured.data_seconds, machine.cores, machine.on_gpu)
        return estimate(measured, view, pixels, {**settings, "batch_size": batch}, workers, machine.on_gpu)

    sizes = range(max(wanted.size), SMALLEST - 1, -STEP)
    options = {size: pixels_of(view.field, size) for size in [*sizes, SMALLEST]}
    pixels = next(
        (
            one
            for one in options.values()
            if estimated(one, trial.scaled(_count(one) / _count(probe))).minutes <= minutes
        ),
        options[SMALLEST],
    )
    again = measure(pixels, batch) if pixels != probe and probe == wanted else None
    trial = again or trial.scaled(_count(pixels) / _count(probe))
    found = estimated(pixels, trial)
    fitting = choose_batch(batch, found.bytes_on_device, machine.free)
    if fitting < batch:
        trial = measure(pixels, fitting) or trial
        batch = fitting
        found = estimated(pixels, trial)
    workers = choose_workers(trial.seconds, trial.data_seconds, machine.cores, machine.on_gpu)
    return Fit(pixels, wanted, batch, workers, trial, found)


def is_too_large(fit: Fit, machine: Machine) -> bool:
    """Returns whether a training needs more memory than there is."""
    return (
        fit.estimate is not None and machine.free is not None and fit.estimate.bytes_on_device > MEMORY * machine.free
    )


def _count(pixels: Pixels) -> int:
    return pixels.size[0] * pixels.size[1]
