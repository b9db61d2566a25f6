"""All that a training is at one moment, as a file of tensors and plain types, so that it can go on from there."""

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

FORMAT = 2
NAME = "checkpoints/last.pt"  # below the run's folder; beside model.pt MONAI Label would offer it as weights

State = dict[str, Any]


class Resumable(Protocol):
    """What `TrainingState` asks of an iteration update."""

    def state_dict(self) -> State:
        """Returns what all processes share: weights, optimizers, scale of the gradients."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes that up again."""

    def process_state_dict(self) -> State:
        """Returns what each process has of its own."""

    def load_process_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes that up again."""


class TrainingState:
    """Reads and writes the state of a run: weights, optimizers, schedules, pools, random numbers, place in the data.

    The order of the data follows from the sampler's seed, the target slices that it draws, which the state holds, the
    epoch and the place in it, and the ramp of w_p from the epoch; the iteration stands for epoch and place.

    Args:
        update: the iteration update.
        schedule: of the learning rate.
        sampler: of the training data.
        identity: plain types that must be the same for a run to go on: fingerprint, seed, batch size and the like.
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
        """Puts everything back but the random numbers, for which see `restore_random_numbers`.

        Raises:
            InputError: when the state is of other networks or optimizers.
        """
        try:
            self.update.load_state_dict(state["update"])
            self.update.load_process_state_dict(state["processes"][rank()])
            self.schedule.load_state_dict(state["schedule"])
            self.sampler.target_slices = state["target_slices"].numpy()
        except torch.OutOfMemoryError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                "the state to resume from is of other networks or optimizers than this run has: give the overlays of "
                f"that run, or start anew without --resume ({first_line(error)})."
            ) from error
        self.sampler.skip(state["iteration"] % iterations_per_epoch)

    def read(self, path: Path) -> State:
        """Reads a file that `write_state` wrote and checks that it is of this run.

        Raises:
            InputError: when it cannot be read, is of another kind, or of a run with other data or settings.
        """
        state = read_state(path)
        place = _difference(state["identity"], self.identity)
        if place:
            raise InputError(
                f"{path}: it is the state of another run ({place}): use the data and settings of that run, or start "
                "anew without --resume."
            )
        if len(state["processes"]) != world_size():
            raise InputError(
                f"{path}: {len(state['processes'])} processes trained together when it was written, here "
                f"{world_size()}: start as many."
            )
        return state


def state_to_resume(resume: str | None, output_dir: str | Path) -> Path | None:
    """Returns the file that training goes on from, after a look into it, or None for a new run.

    Args:
        resume: a file; `auto`: the last state in `output_dir` if there is one, else a new run; None: a new run.
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
    """Reads the file of a state.

    Raises:
        InputError: when it is missing, truncated or no state of a training.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file to resume from: correct --resume, or leave it out.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a foreign file makes the unpickler stumble over
        raise InputError(
            f"{path}: it is truncated or no training state: resume from another, or start anew."
        ) from error
    if not isinstance(state, dict) or "update" not in state:
        raise InputError(
            f"{path}: it is no training state that this bundle wrote: --resume takes a {NAME}, not a model.pt."
        )
    if state.get("format") != FORMAT:
        raise InputError(
            f"{path}: its format is {state.get('format')}, this bundle goes on from {FORMAT}: finish that run with the "
            "bundle that it began with, or start anew without --resume."
        )
    return state


def write_state(state: State, path: Path) -> None:
    """Writes a state, whole or not at all: what was there before stays until the new one is complete.

    Raises:
        InputError: when the disk is full or cannot be written.
    """
    try:
        with temporary_beside(path) as temporary, open(temporary, "wb") as stream:
            torch.save(state, stream)
    except (OSError, RuntimeError) as error:  # torch wraps what the system says
        raise InputError(
            f"{path}: the training state cannot be written ({error}): make room or give another --output_dir; the last "
            "good state, if there is one, is untouched, and --resume auto goes on from it."
        ) from error


def restore_random_numbers(state: Mapping[str, Any]) -> None:
    """Puts the random numbers of Python, NumPy and torch back to where they were."""
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
    """Returns a setting without what may differ between two sessions of one run: the versions of the software."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items() if key != "versions"}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _difference(saved: Any, here: Any, name: str = "") -> str:
    """Returns where two settings differ first and how, in words; nothing where they are equal."""
    if isinstance(saved, Mapping) and isinstance(here, Mapping):
        for key in sorted(saved.keys() | here.keys()):
            difference = _difference(saved.get(key), here.get(key), f"{name} {key}".strip())
            if difference:
                return difference
        return ""
    return "" if saved == here else f"{name} was {saved!r} and is {here!r} here"


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Takes up again what `optimizer.state_dict()` returned, on another device or in another memory format as well.

    Fused Adam walks through parameters and moments side by side, so both have to be stored alike; torch leaves moments
    as they were stored when the state was written: channels last on a GPU, channels first on a CPU.

    Args:
        optimizer: of parameters in the order of those that the state is of.
        state: of an optimizer of the same kind.

    Raises:
        ValueError: when the parameters are not as many.
    """
    optimizer.load_state_dict(dict(state))
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
