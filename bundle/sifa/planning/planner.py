"""`run planning`: measures the data and the machine, and writes `plan.yaml`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from sifa.data.dataset_json import DatasetDescription
from sifa.fingerprint.extractor import compute_fingerprint
from sifa.io.grids import read_grid, require_affine
from sifa.planning.estimate import GIB
from sifa.planning.machine import Machine, describe_machine
from sifa.planning.machine_fit import Fit, fit_machine, is_too_large
from sifa.planning.overlay import INITIALIZE, render
from sifa.planning.plan import Setting, plan_appearance, plan_epochs, plan_plane, plan_slices, view_of
from sifa.planning.poor_fits import poor_fits
from sifa.planning.slice_plane import choose_plane
from sifa.planning.trial import run_trial
from sifa.utils.errors import InputError
from sifa.utils.files import write_text, writing

logger = logging.getLogger(__name__)

NAME = "plan.yaml"
MINUTES = {False: 120.0, True: 720.0}  # that a training may take on a CPU, and on a GPU
MEASURED = (256, 256)  # slices of the fingerprint, with which it has nothing to warn of
APPEARANCE = ("match_field_of_view", "random_appearance_weight")  # chosen settings that an iteration's time depends on
LONG = 24 * 60  # minutes of a training beyond which there is a warning


def write_plan(
    dataset: DatasetDescription,
    network: Mapping[str, Any],
    intensity: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    output_dir: str | Path,
    device: str | torch.device = "cpu",
    minutes: float | None = None,
    adapts: bool = True,
    check_units: bool = True,
    match_in_plane: bool = False,
) -> None:
    """Writes `<output_dir>/plan.yaml`, an overlay with the settings that suit the data and the machine, and logs it.

    Args:
        dataset: the data set; its plane may be missing.
        network: the segmenter's `in_channels` and `width`.
        intensity: the intensity rules by modality; see `sifa.fingerprint.compute_fingerprint`.
        settings: the settings of the config that a plan decides; the overlay has no others.
        config: what the command runs, not evaluated, for a trial of some iterations; None: there is no trial.
        output_dir: where the overlay goes.
        device: that training computes on.
        minutes: that a training may take; None: 120 on a CPU, 720 on a GPU.
        adapts: whether target images are trained on.
        check_units: whether scans whose values contradict their modality are refused.
        match_in_plane: whether slices show what the smaller domain shows; see `sifa.fingerprint.in_plane_field`.

    Raises:
        InputError: when the data set cannot be used, or the config continues another run.
    """
    if config is not None and config.get("initial_weights") is not None:
        raise InputError(
            "initial_weights: a training that starts from another run has that run's slices: plan the first stage, and "
            "give its plan.yaml to both."
        )
    chosen_plane = choose_plane(_affines(dataset, adapts), dataset.slice_plane)
    known = replace(dataset, slice_plane=chosen_plane.plane)
    fingerprint = compute_fingerprint(
        known, network, MEASURED, intensity, check_units=check_units, match_in_plane=match_in_plane and adapts
    )
    view = view_of(fingerprint, adapts)
    plane = plan_plane(view, chosen_plane.reason)
    machine = describe_machine(device)
    limit = minutes or MINUTES[machine.on_gpu]
    lines = [plane, *plan_appearance(view, fingerprint)]
    chosen = {**settings, **{line.name: line.value for line in lines if line.name in settings}}
    matched = bool(chosen.get("match_field_of_view"))
    epochs = plan_epochs(view, settings["epochs"], settings["iterations_per_epoch"], settings["batch_size"], matched)
    chosen["epochs"] = epochs.value
    appearance = {name: chosen[name] for name in APPEARANCE if name in chosen}
    fit = fit_machine(
        view,
        machine,
        None
        if config is None
        else lambda pixels, batch: run_trial(config, known, fingerprint, pixels.size, batch, appearance),
        chosen,
        float(network["width"]),
        limit,
    )
    lines += [*plan_slices(view, fit.pixels, _limit(fit, limit)), epochs]
    lines += _machine_lines(fit, settings["batch_size"], machine)
    order = list(settings)
    planned = sorted((line for line in lines if line.name in settings), key=lambda line: order.index(line.name))
    path = Path(output_dir) / NAME
    text = render(planned, _notes(dataset.name, fit, machine))
    with writing(path):
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            path.replace(path.with_name("plan_earlier.yaml"))
            logger.info("%s: the plan that was there is kept as plan_earlier.yaml", path)
        write_text(path, text)
    logger.info("%s:\n%s", path, text.removesuffix(INITIALIZE).rstrip())
    final = {**chosen, **{line.name: line.value for line in planned}}
    tried = config is not None
    for warning in [*poor_fits(view, fit.pixels, final, fingerprint), *_warnings(fit, machine, tried)]:
        logger.warning("%s", warning)


def _affines(dataset: DatasetDescription, adapts: bool) -> dict[str, list[npt.NDArray[np.float64]]]:
    """Returns the affines of the training scans by domain, from their headers; those of DICOM from their slices."""
    domains = {"source": dataset.source_training, "target": dataset.target_training if adapts else []}
    return {
        name: [_affine(item["image"]) for item in tqdm(items, desc=f"grids, {name}", leave=False, disable=None)]
        for name, items in domains.items()
        if items
    }


def _affine(path: str) -> npt.NDArray[np.float64]:
    affine = read_grid(path).affine
    require_affine(affine, path)
    return affine


def _limit(fit: Fit, minutes: float) -> str:
    """Returns what keeps slices from being as large as the data call for, as the end of a reason."""
    if fit.pixels == fit.wanted:
        return ""
    rows, columns = fit.wanted.size
    return f"; the data call for {rows} x {columns}, which takes more than {minutes:.0f} minutes here"


def _machine_lines(fit: Fit, batch: int, machine: Machine) -> list[Setting]:
    """Returns the lines about batch and workers."""
    kept = "of the config" if fit.batch == batch else f"the config's {batch} needs more memory than is free"
    lines = [Setting("batch_size", fit.batch, f"slices of each domain: {kept}{_memory(fit, machine)}")]
    if fit.trial is not None and fit.workers is not None:
        times = f"data of an iteration take {fit.trial.data_seconds:.3f} s in one process, its updates"
        lines.append(Setting("num_workers", fit.workers, f"{times} {fit.trial.seconds:.3f} s; {machine.cores} cores"))
    return lines


def _memory(fit: Fit, machine: Machine) -> str:
    if fit.estimate is None or machine.free is None:
        return ""
    return f"; {fit.estimate.bytes_on_device / GIB:.1f} of {machine.free / GIB:.1f} GiB free"


def _notes(name: str, fit: Fit, machine: Machine) -> list[str]:
    """Returns the comments at the head of the overlay."""
    notes = [f"Written by `run planning` for {name}: an overlay of the configs that it was planned with."]
    if fit.estimate is None or fit.trial is None:
        return [*notes, f"On {machine.name}; not timed."]
    where = f"On {machine.name}: about {_duration(fit.estimate.minutes)}, without reading volumes and validation,"
    memory = f"and {fit.estimate.bytes_on_device / GIB:.1f} GiB"
    slices = f" on the GPU and {fit.estimate.bytes_of_slices / GIB:.1f} GiB for slices" if machine.on_gpu else ""
    return [*notes, f"{where} {memory}{slices}; an iteration took {fit.trial.seconds:.2f} s in a trial."]


def _duration(minutes: float) -> str:
    return f"{minutes:.0f} minutes" if minutes < 180 else f"{minutes / 60:.0f} hours"


def _warnings(fit: Fit, machine: Machine, tried: bool) -> list[str]:
    """Returns warnings about a machine that is too small."""
    warnings = []
    if tried and fit.trial is None:
        warnings.append(
            "no trial fitted into the memory that is free, not even with a batch of 1, so the plan does not know this "
            "machine: use one with more memory, or compact.yaml before the plan."
        )
    if fit.estimate is not None and fit.estimate.minutes > LONG:
        days = fit.estimate.minutes / 60 / 24
        remedy = "fewer epochs" if machine.on_gpu else "a GPU, or compact.yaml before the plan"
        warnings.append(f"this training takes about {days:.1f} days on {machine.name}: use {remedy}.")
    if is_too_large(fit, machine):
        warnings.append("this training needs more memory than is free: use a machine with more, or cache_dir.")
    return warnings
