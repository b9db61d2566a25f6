"""Checkpoints: the whole state of a training as a file of tensors and plain types, from which it resumes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import distributed
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sifa.data.unpaired_slices import UnpairedSampler
from sifa.utils.distributed import rank, world_size
from sifa.utils.errors import InputError, first_line
from sifa.utils.files import temporary_beside

FORMAT = 3
FORMATS_0_1_0 = (1, 2)  # which version 0.1.0 wrote
NAME = "checkpoints/last.pt"  # below the run's folder; beside model.pt MONAI Label would offer it as weights

State = dict[str, Any]

NOT_COMPARED = ("versions", "statistics")  # of a fingerprint: of software, and of its data, which earlier versions lack


class Resumable(Protocol):
    """The part of an iteration update that `TrainingState` uses."""

    def state_dict(self) -> State:
        """Returns the state that all processes share: weights, optimizers, gradient scale."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores that state."""

    def process_state_dict(self) -> State:
        """Returns the state that each process has for itself."""

    def load_process_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores that state."""


class TrainingState:
    """Collects, writes, reads and restores the state of a run.

    The state holds weights, optimizers, schedules, pools, random numbers and the position in the data. The order of the
    data follows from the sampler's seed, the target slices that it draws, the epoch and the position in it; the ramps
    of loss weights follow from the epoch. The number of the iteration gives epoch and position.

    Args:
        update: the iteration update.
        schedule: the learning rate schedule.
        sampler: the sampler of the training data.
        identity: plain types that must be the same for a run to resume: fingerprint, hyper-parameters, method.
    """

    def __init__(
        self, update: Resumable, schedule: LRScheduler, sampler: UnpairedSampler, identity: Mapping[str, Any]
    ) -> None:
        self.update = update
        self.schedule = schedule
        self.sampler = sampler
        self.identity = {name: _plain(value) for name, value in identity.items()}

    def collect(self, iteration: int) -> State:
        """Returns the state after `iteration`; every process has to call this, and each returns the whole."""
        own = {"random": _random_state(), **self.update.process_state_dict()}
        processes: list[Any] = [own]
        if world_size() > 1:
            processes = [None] * world_size()
            distributed.all_gather_object(processes, own)
        return {
            "format": FORMAT,
            "identity": self.identity,
            "iteration": iteration,
            "update": self.update.state_dict(),
            "schedule": self.schedule.state_dict(),
            "target_slices": torch.from_numpy(self.sampler.target_slices),
            "processes": processes,
        }

    def restore(self, state: Mapping[str, Any], iterations_per_epoch: int) -> None:
        """Restores everything but the random numbers, for which see `restore_random_numbers`.

        Raises:
            InputError: when the state belongs to other networks or optimizers.
        """
        try:
            self.update.load_state_dict(state["update"])
            self.update.load_process_state_dict(state["processes"][rank()])
            self.schedule.load_state_dict(state["schedule"])
            self.sampler.target_slices = state["target_slices"].numpy()
        except torch.OutOfMemoryError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            layers = str(error).startswith("Error(s) in loading state_dict")  # several lines of layers follow
            reason = "one of its networks has other layers" if layers else first_line(error)
            raise InputError(
                "the checkpoint to resume from belongs to other networks or optimizers than this run has: give the "
                f"overlays of that run, or start a new run without --resume ({reason})."
            ) from error
        self.sampler.skip(state["iteration"] % iterations_per_epoch)

    def read(self, path: Path) -> State:
        """Reads a file that `write_state` wrote and checks that it belongs to this run.

        Raises:
            InputError: when it cannot be read, is no checkpoint, or belongs to a run with other data or settings.
        """
        state = read_state(path)
        place = _difference(state["identity"], self.identity)
        if place:
            raise InputError(
                f"{path}: this checkpoint belongs to another run ({place}): use the data and settings of that run, or "
                "start a new run without --resume."
            )
        if len(state["processes"]) != world_size():
            raise InputError(
                f"{path}: {len(state['processes'])} processes wrote this checkpoint together and {world_size()} are "
                "running now: start the same number."
            )
        return state


def state_to_resume(resume: str | None, output_dir: str | Path) -> Path | None:
    """Returns the checkpoint that training resumes from, once it has been read without error, or None for a new run.

    Args:
        resume: a file; `auto`: the last checkpoint in `output_dir` if there is one, else a new run; None: a new run.
        output_dir: the run's folder.

    Raises:
        InputError: when the file cannot be used.
    """
    if resume is None:
        return None
    path = Path(output_dir) / NAME if resume == "auto" else Path(resume)
    if resume == "auto" and not path.is_file():
        return None
    read_state(path)
    return path


def read_state(path: Path) -> State:
    """Reads a checkpoint.

    Raises:
        InputError: when it is missing, truncated, no checkpoint, or one of another version of this bundle.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file to resume from: correct --resume, or leave it out.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can make the unpickler raise anything
        raise InputError(
            f"{path}: this file is truncated or no checkpoint: resume from another one, or start a new run."
        ) from error
    if not isinstance(state, dict) or "update" not in state:
        raise InputError(f"{path}: this is no checkpoint of this bundle: --resume takes a {NAME}, not a model.pt.")
    if state.get("format") != FORMAT:
        writer = "version 0.1.0" if state.get("format") in FORMATS_0_1_0 else "another version"
        raise InputError(
            f"{path}: {writer} of the bundle wrote this checkpoint (format {state.get('format')}; this version reads "
            f"{FORMAT}): finish that run with the version that it began with, or start a new run without --resume."
        )
    return state


def write_state(state: State, path: Path) -> None:
    """Writes a checkpoint, whole or not at all: an earlier file stays until the new one is complete.

    Raises:
        InputError: when the disk is full or cannot be written.
    """
    try:
        with temporary_beside(path) as temporary, open(temporary, "wb") as stream:
            torch.save(state, stream)
    except (OSError, RuntimeError) as error:  # torch wraps what the system says
        raise InputError(
            f"{path}: the checkpoint cannot be written ({error}): make room or give another --output_dir; an earlier "
            "checkpoint, if there is one, is untouched, and --resume auto resumes from it."
        ) from error


def restore_random_numbers(state: Mapping[str, Any]) -> None:
    """Restores the states of the random number generators of Python, NumPy and torch."""
    saved = state["processes"][rank()]["random"]
    version, internal, gauss = saved["python"]
    random.setstate((version, tuple(internal), gauss))
    numbers = saved["numpy"]
    keys = numbers["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**numbers, "state": {**numbers["state"], "key": keys}})
    torch.set_rng_state(saved["torch"])
    if "cuda" in saved and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"])


def _random_state() -> State:
    version, internal, gauss = random.getstate()
    numbers: Any = np.random.get_state(legacy=False)
    keys = torch.from_numpy(numbers["state"]["key"].astype(np.int64))
    saved: State = {
        "python": [version, list(internal), gauss],
        "numpy": {**numbers, "state": {**numbers["state"], "key": keys}},
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        saved["cuda"] = torch.cuda.get_rng_state()
    return saved


def _plain(value: Any) -> Any:
    """Returns a setting in plain types, without what may differ between two sessions of a run."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items() if key not in NOT_COMPARED}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _difference(saved: Any, here: Any, name: str = "") -> str:
    """Returns the first difference of two settings in words; an empty text where they are equal."""
    if isinstance(saved, Mapping) and isinstance(here, Mapping):
        for key in sorted(saved.keys() | here.keys()):
            difference = _difference(saved.get(key), here.get(key), f"{name} {key}".strip())
            if difference:
                return difference
        return ""
    return "" if saved == here else f"{name} was {saved!r} and is {here!r} here"


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Restores the state that `optimizer.state_dict()` returned, also on another device or in another memory format.

    Fused Adam needs parameters and moments in the same memory format, while torch keeps the moments in the format in
    which the state was written: channels last on a GPU, channels first on a CPU.

    Args:
        optimizer: an optimizer of the same kind, with its parameters in the same order.
        state: what `state_dict` returned.

    Raises:
        ValueError: when the numbers of parameters differ.
    """
    optimizer.load_state_dict(dict(state))
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
