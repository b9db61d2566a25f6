"""Going on from a state: a training that was killed or stopped ends as if nothing had happened."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from builders import read_json, refusal
from conftest import BUNDLE, RECOMMENDED, TINY, as_flags
from engines import go
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from monai.engines import Trainer
from sifa.data.unpaired_slices import Draw, UnpairedSampler, UnpairedSlices
from sifa.handlers import StateLoader, StateSaver
from sifa.training.checkpoint import (
    FORMAT,
    NAME,
    TrainingState,
    read_state,
    restore_random_numbers,
    state_to_resume,
    write_state,
)
from sifa.utils.errors import Interrupted, find_input_error
from sifa.utils.paths import require_writable
from torch.utils.data import DataLoader, Dataset

pytestmark = pytest.mark.slow

LENGTH, EPOCHS = 5, 3  # iterations of an epoch
SETTINGS: dict[str, Any] = {  # with which every part of the state matters
    **TINY,
    "width": 1 / 32,
    "epochs": EPOCHS,
    "iterations_per_epoch": LENGTH,
    "val_interval": 2,
    "pool_size": 3,
    "lr_gamma": 0.5,
    "lr_step_epochs": 1,
    "loss_weights#segmenter#prediction_adversarial": "[0,0.05,0.1]",
    "loss_weights#segmenter#self_training": "[0.5,1]",
    "ema_decay": 0.7,
}
IN_THE_PAPERS_ORDER = {"method#_target_": "sifa.adaptation.SIFA"}
CONFIGS = RECOMMENDED
SECONDS = 300  # to wait for a process
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals and limits")


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what nested mappings and lists hold, and where."""
    if isinstance(value, Mapping):
        assert all(type(key) in (str, int) for key in value), place
        pairs = list(value.items())
    elif isinstance(value, (list, tuple)):
        pairs = list(enumerate(value))
    else:
        yield place, value
        return
    yield f"{place} has", len(pairs)
    for key, entry in pairs:
        yield from leaves(entry, f"{place}/{key}")


def differences(first: Any, second: Any) -> list[str]:
    """Where two states differ, in any bit."""
    one, other = dict(leaves(first)), dict(leaves(second))

    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else type(a) is type(b) and a == b

    return [place for place in one.keys() | other.keys() if not same(one.get(place), other.get(place))]


# --- Real runs -------------------------------------------------------------------------------------------------------


def start(phantom: Path, output: Path, **options: Any) -> subprocess.Popen[str]:
    """Starts the training in a process of its own, which goes on from what is in `output`."""
    files = ",".join(f"'{BUNDLE / 'configs' / name}'" for name in CONFIGS)
    flags = {"config_file": f"[{files}]", "dataset_dir": phantom, "output_dir": output, **SETTINGS, "resume": "auto"}
    return subprocess.Popen(
        [sys.executable, "-m", "monai.bundle", "run", "training", *as_flags({**flags, **options})],
        cwd="/",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def uninterrupted(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.Popen[str], Path]:
    """A training that nothing interrupts, while it runs beside what comes next, and its folder."""
    output = tmp_path_factory.mktemp("reference") / "run"
    return start(phantom, output, resume=None), output


@pytest.fixture(scope="module")
def reference(uninterrupted: tuple[subprocess.Popen[str], Path]) -> Path:
    """The folder of that training, completed."""
    process, output = uninterrupted
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    return output


@pytest.fixture
def finished(reference: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(reference, tmp_path / "finished"))


def iterations_in(output: Path) -> list[int]:
    """The iterations in the table, of which a process may be writing the last row."""
    table = output / "scalars.csv"
    rows = table.read_text(encoding="utf-8").split("\n")[1:-1] if table.is_file() else []
    return [int(row.split(",")[1]) for row in rows]


@dataclass
class Stop:
    """How a session ended that got a signal."""

    status: int
    errors: list[str]  # lines that begin with `error: `
    iteration: int  # of the state that it left


def stop(process: subprocess.Popen[str], output: Path, iteration: int, number: int) -> Stop:
    """Sends a signal once the table has a new row of this iteration or of a later one."""
    wanted, until = max(iteration, len(iterations_in(output)) + 1), time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < until and len(iterations_in(output)) < wanted:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=SECONDS)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    return Stop(process.returncode, lines, read_state(output / NAME)["iteration"])


@pytest.fixture(scope="module")
def run_here(phantom: Path) -> Iterator[Callable[..., None]]:
    """Runs `training` in this process, which spares its start."""

    def run(output: Path, overlays: tuple[str, ...] = (), **settings: Any) -> None:
        files = [str(BUNDLE / "configs" / name) for name in (*CONFIGS, *overlays)]
        plain = {name: yaml.safe_load(str(value)) for name, value in SETTINGS.items()}
        settings = {**plain, "dataset_dir": str(phantom), "output_dir": str(output), **settings}
        workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **settings)
        workflow.initialize()
        workflow.run()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)  # the config sets it
        yield run


@dataclass
class Interruptions:
    """A training in several sessions."""

    output: Path
    killed: Stop
    terminated: Stop
    killed_later: Stop
    stopped_by_hand: Stop


@pytest.fixture(scope="module")
def interrupted(
    phantom: Path, uninterrupted: object, run_here: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Interruptions:
    """The same training, killed and stopped again and again; its first session begins in an empty folder."""
    output = tmp_path_factory.mktemp("interrupted") / "run"

    def session(iteration: int, number: int, **options: Any) -> Stop:
        return stop(start(phantom, output, checkpoint_interval=1, **options), output, iteration, number)

    stops = (
        session(2, signal.SIGKILL),
        session(LENGTH, signal.SIGTERM),
        session(LENGTH + 2, signal.SIGKILL),
        session(2 * LENGTH + 1, signal.SIGINT),
    )
    run_here(output, resume="auto")
    return Interruptions(output, *stops)


@posix
def test_a_killed_run_leaves_a_state_of_where_it_was(interrupted: Interruptions) -> None:
    assert (interrupted.killed.status, interrupted.killed_later.status) == (-signal.SIGKILL, -signal.SIGKILL)
    assert 1 <= interrupted.killed.iteration < LENGTH
    assert LENGTH < interrupted.killed_later.iteration < 2 * LENGTH


@posix
def test_a_run_that_is_told_to_stop_completes_its_iteration_and_says_how_to_go_on(interrupted: Interruptions) -> None:
    for found, number in ((interrupted.terminated, signal.SIGTERM), (interrupted.stopped_by_hand, signal.SIGINT)):
        assert found.status == 128 + number
        (line,) = found.errors
        for part in (f"{number.name} after iteration {found.iteration};", str(interrupted.output / NAME)):
            assert part in line
        assert line.endswith("resume with --resume auto.")


@posix
def test_a_run_that_was_killed_and_stopped_ends_as_the_uninterrupted_one(
    interrupted: Interruptions, reference: Path
) -> None:
    output = interrupted.output
    assert differences(read_state(output / NAME), read_state(reference / NAME)) == []
    for name in ("model.pt", "last/model.pt", "generators/target_generator.pt", "generators/source_decoder.pt"):
        one, other = (torch.load(folder / name, weights_only=True) for folder in (output, reference))
        assert differences(one, other) == [], name
    for name in ("scalars.csv", "selection.csv", "validation.json", f"images/iteration_{EPOCHS * LENGTH:06d}.png"):
        assert (output / name).read_bytes() == (reference / name).read_bytes(), name
    assert iterations_in(output) == list(range(1, EPOCHS * LENGTH + 1))
    assert len(read_json(output / "run.json")["sessions"]) == 5
    assert sorted(path.name for path in (output / "checkpoints").iterdir()) == ["last.pt"]


# --- The same configs in this process --------------------------------------------------------------------------------


def refusal_of(action: Callable[[], Any]) -> str:
    """Returns how a run refuses its input; MONAI wraps the error."""

    def unwrapped() -> None:
        try:
            action()
        except Exception as error:
            raise find_input_error(error) or error from None

    return refusal(unwrapped)


def test_of_a_completed_run_nothing_is_trained_again(finished: Path, run_here: Callable[..., None]) -> None:
    kept = ("model.pt", "scalars.csv", NAME)
    before = {name: (finished / name).read_bytes() for name in kept}
    run_here(finished, resume="auto")
    assert {name: (finished / name).read_bytes() for name in kept} == before
    session = read_json(finished / "run.json")["sessions"][-1]
    assert (session["first_iteration"], session["last_iteration"]) == (16, 15)


def test_more_epochs_go_on_from_the_end_as_if_they_had_been_asked_for_before(
    reference: Path, tmp_path: Path, run_here: Callable[..., None]
) -> None:
    run_here(tmp_path, epochs=1)
    run_here(tmp_path, resume=str(tmp_path / NAME))
    found = differences(read_state(tmp_path / NAME), read_state(reference / NAME))
    # A new process, as the reference is one, draws a number of Python's while it imports.
    assert [place for place in found if not place.startswith("/processes/0/random/python")] == []
    assert (tmp_path / "scalars.csv").read_bytes() == (reference / "scalars.csv").read_bytes()


@pytest.mark.parametrize(
    ("overlay", "settings", "told"),
    [
        (None, {"seed": 1}, "seed was 0 and is 1 here"),
        (None, {"batch_size": 1}, "batch_size was 2 and is 1 here"),
        (None, {"slice_size": [32, 40]}, "fingerprint slice_size was [32, 32] and is [32, 40] here"),
        (None, {"precision": "bfloat16"}, "precision was 'float32' and is 'bfloat16' here"),
        (
            "image_adaptation.yaml",
            {"loss_weights#segmenter#prediction_adversarial": 0},
            "auxiliary_adversarial was [",  # a ramp, and is 0 here
        ),
        (None, IN_THE_PAPERS_ORDER, "method name was 'sifa_simultaneous' and is 'sifa' here"),
        (None, {"ema_decay": 0.9}, "ema_decay was 0.7 and is 0.9 here"),
        (None, {"augmentation_transforms#1#rotate_range": 1.5}, "slice_augmentation was '"),
        (None, {"statistics_slices": 8}, "statistics_slices was 256 and is 8 here"),
        (None, {"match_field_of_view": False}, "match_field_of_view was True and is False here"),
        (None, {"pamr_iterations": 3}, "fingerprint pamr_iterations was 10 and is 3 here"),
    ],
    ids=[
        *("seed", "batch size", "slice size", "precision", "image adaptation", "order"),
        *("weight average", "augmentation", "statistics", "field of view", "PAMR"),
    ],
)
def test_the_state_of_another_run_is_refused_before_an_iteration(
    overlay: str | None, settings: dict[str, Any], told: str, finished: Path, run_here: Callable[..., None]
) -> None:
    before = {name: (finished / name).read_bytes() for name in ("scalars.csv", "run.json", "model.pt", NAME)}
    overlays = (overlay,) if overlay else ()
    message = refusal_of(lambda: run_here(finished, overlays, resume="auto", epochs=4, **settings))
    for part in (str(finished / NAME), told, "without --resume"):
        assert part in message
    assert {name: (finished / name).read_bytes() for name in before} == before


def test_the_state_of_another_data_set_is_refused(
    finished: Path, phantom: Path, tmp_path: Path, run_here: Callable[..., None]
) -> None:
    other = tmp_path / "data"
    shutil.copytree(phantom, other)
    content = (other / "dataset.json").read_text(encoding="utf-8")
    name = read_json(other / "dataset.json")["name"]
    (other / "dataset.json").write_text(content.replace(name, "another one"), encoding="utf-8")
    message = refusal_of(lambda: run_here(finished, resume="auto", dataset_dir=str(other)))
    assert f"fingerprint name was {name!r} and is 'another one' here" in message


def test_a_file_that_is_not_there_is_refused_before_data_are_read(
    tmp_path: Path, run_here: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        message = refusal_of(lambda: run_here(tmp_path / "run", resume=str(tmp_path / "nowhere.pt")))
    assert message.startswith(f"{tmp_path / 'nowhere.pt'}: there is no such file")
    assert "training on" not in caplog.text
    assert list((tmp_path / "run").iterdir()) == []


@posix
def test_on_a_full_disk_the_last_good_state_stays(finished: Path, run_here: Callable[..., None]) -> None:
    resource = pytest.importorskip("resource", reason="limits of a process are set with it")
    before, limits = (finished / NAME).read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)

    def run() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # bytes of a file
        try:
            run_here(finished, resume="auto", epochs=EPOCHS + 1, checkpoint_interval=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    message = refusal_of(run)
    for part in (f"{finished / NAME}: the checkpoint cannot be written", "untouched", "--resume auto"):
        assert part in message
    assert (finished / NAME).read_bytes() == before
    assert read_state(finished / NAME)["iteration"] == EPOCHS * LENGTH
    assert [path.name for path in (finished / "checkpoints").iterdir()] == ["last.pt"]


# --- The file --------------------------------------------------------------------------------------------------------


def test_the_state_is_tensors_and_plain_types_only(reference: Path) -> None:
    state = torch.load(reference / NAME, weights_only=True)
    found = dict(leaves(state))
    assert {type(value) for value in found.values()} == {torch.Tensor, bool, int, float, str, type(None)}


def test_the_state_holds_all_networks_optimizers_and_pools_with_their_random_numbers(reference: Path) -> None:
    state = read_state(reference / NAME)
    modules = {"segmenter", "target_generator", "source_decoder"}
    modules |= {f"{name}_discriminator" for name in ("target", "source", "prediction")}
    assert state["update"]["networks"].keys() == state["update"]["optimizers"].keys() == modules
    assert all(optimizer["state"] for optimizer in state["update"]["optimizers"].values())
    assert state["update"]["optimizers"]["segmenter"]["param_groups"][0]["lr"] == 0.001 * 0.5**EPOCHS
    (own,) = state["processes"]
    for number, name in enumerate(("target_pool", "source_pool")):
        assert [image.shape for image in own[name]["images"]] == [(1, 32, 32)] * 3
        assert not torch.equal(own[name]["random"], torch.Generator().manual_seed(number).get_state())
    assert own["random"].keys() >= {"python", "numpy", "torch"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file"),
        (b"", "truncated"),
        (b"PK\x03\x04 and no more", "truncated"),
        ({"encoder.layers.0.weight": torch.zeros(3)}, "not a model.pt"),
        ({"format": 99, "update": {}}, "another version of the bundle wrote this checkpoint (format 99"),
        ({"format": 2, "update": {}}, "version 0.1.0 of the bundle wrote this checkpoint (format 2"),
        ([1, 2], "no checkpoint"),
    ],
    ids=["missing", "empty", "garbage", "weights", "later format", "0.1.0", "list"],
)
def test_a_file_that_is_no_state_is_refused(content: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    message = refusal(lambda: state_to_resume(str(path), tmp_path))
    assert message.startswith(f"{path}: ")
    assert told in message


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_state_that_was_cut_is_refused(share: float, finished: Path) -> None:
    content = (finished / NAME).read_bytes()
    (finished / NAME).write_bytes(content[: int(share * len(content))])
    assert "truncated" in refusal(lambda: state_to_resume("auto", finished))


def test_auto_is_the_last_state_of_the_folder_and_a_new_run_where_there_is_none(
    reference: Path, tmp_path: Path
) -> None:
    assert state_to_resume("auto", tmp_path) is None
    assert state_to_resume("auto", tmp_path / "not there") is None
    assert state_to_resume("auto", reference) == reference / NAME
    assert state_to_resume(None, reference) is None
    assert state_to_resume(str(reference / NAME), tmp_path) == reference / NAME


@pytest.mark.parametrize("place", ["a file/run", "/proc/run"])
def test_a_folder_that_cannot_be_written_is_refused_at_once(place: str, tmp_path: Path) -> None:
    if place.startswith("/proc") and not Path("/proc/self").is_dir():
        pytest.skip("this system has no /proc, which nobody can write")
    (tmp_path / "a file").write_bytes(b"")
    message = refusal(lambda: require_writable(tmp_path / place))
    assert message.startswith(f"{tmp_path / place}: ")
    assert "make room or give another folder" in message
    run = yaml.safe_load((BUNDLE / "configs" / "train.yaml").read_text(encoding="utf-8"))["run"]
    assert run[3:6] == ["@switches", "@limits", "$monai.utils.set_determinism(@seed)"]  # which take no time
    assert run[6]["_target_"] == "sifa.utils.require_writable"  # before anything else


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


# --- Every place to stop at ------------------------------------------------------------------------------------------


class Drawing:
    """An update whose result is what it has drawn: from each source of random numbers, from a batch, at a rate."""

    def __init__(self) -> None:
        self.drawn: list[list[Any]] = []
        self.generator = torch.Generator().manual_seed(7)  # as a pool has one
        self.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)

    def __call__(self, engine: Engine, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        own = torch.rand((), generator=self.generator).item()
        numbers = [random.random(), float(np.random.random()), torch.rand(()).item(), own]
        self.drawn.append([engine.state.epoch, *numbers, self.optimizer.param_groups[0]["lr"], batch.tolist()])
        self.optimizer.step()
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.drawn = list(state["drawn"])
        self.optimizer.load_state_dict(state["optimizer"])

    def process_state_dict(self) -> dict[str, Any]:
        return {"pool": self.generator.get_state()}

    def load_process_state_dict(self, state: Mapping[str, Any]) -> None:
        self.generator.set_state(state["pool"])


class Draws(Dataset):
    """Shows the draws themselves."""

    source_size, target_size, labeled_size = 7, 5, 0

    def __len__(self) -> int:
        return 7

    def __getitem__(self, draw: Draw) -> torch.Tensor:
        return torch.tensor(draw)


def draw_numbers(folder: Path, seed: int, end: int = 0, resume: str | None = None, **loading: Any) -> Drawing:
    """Draws for 3 epochs of 3 iterations, or until iteration `end` is over, from a seed."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

    def draw_fewer(engine: Engine) -> None:
        sampler.target_slices = np.arange(engine.state.epoch, 5)

    update, data = Drawing(), Draws()
    schedule = torch.optim.lr_scheduler.StepLR(update.optimizer, 1, 0.5)
    sampler = UnpairedSampler(cast(UnpairedSlices, data), 2, 3)
    state = TrainingState(update, schedule, sampler, {"seed": 0})
    trainer = Trainer(
        "cpu",
        max_epochs=3,
        data_loader=DataLoader(data, 2, sampler=sampler, drop_last=True, **loading),
        iteration_update=update,
        decollate=False,
        handlers=[StateLoader(state, state_to_resume(resume, folder), folder)],
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: schedule.step())
    trainer.add_event_handler(Events.EPOCH_COMPLETED, draw_fewer)
    StateSaver(state, folder, 1).attach(trainer)
    if end:
        end_of = Events.ITERATION_COMPLETED(once=end) if end % 3 else Events.EPOCH_COMPLETED(once=end // 3)
        trainer.add_event_handler(end_of, trainer.terminate)
    trainer.run()
    trainer.data_loader = trainer.state.dataloader = []  # ends its workers now
    return update


@pytest.mark.parametrize(
    ("loading", "ends"),
    [
        ({}, range(1, 9)),
        ({"num_workers": 1}, (2, 3)),
        ({"num_workers": 1, "persistent_workers": True}, (2, 3)),
    ],
    ids=["no worker", "a worker an epoch", "a worker that stays"],
)
def test_whatever_iteration_is_the_last_one_the_next_session_draws_what_would_have_been_drawn(
    loading: dict[str, Any], ends: Sequence[int], tmp_path: Path
) -> None:
    whole = draw_numbers(tmp_path / "whole", 1, **loading)
    assert len(whole.drawn) == 9
    for end in ends:
        folder = tmp_path / str(end)
        draw_numbers(folder, 1, end, **loading)
        assert len(read_state(folder / NAME)["update"]["drawn"]) == end
        assert draw_numbers(folder, end + 100, resume="auto", **loading).drawn == whole.drawn, end
        assert differences(read_state(folder / NAME), read_state(tmp_path / "whole" / NAME)) == [], end


def test_a_new_run_keeps_the_last_state_of_an_earlier_one_under_another_name(tmp_path: Path) -> None:
    draw_numbers(tmp_path, 1)
    earlier = (tmp_path / NAME).read_bytes()
    draw_numbers(tmp_path, 2, end=1)
    assert (tmp_path / "checkpoints" / "last_earlier.pt").read_bytes() == earlier
    assert read_state(tmp_path / NAME)["iteration"] == 1


def test_random_numbers_come_back(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.random(), np.random.normal(), torch.rand(()).item()]

    def state_of(seed: int) -> dict[str, Any]:
        draw_numbers(tmp_path, seed)
        random.gauss(0, 1)  # of two that are drawn at once, the second is kept
        np.random.normal()
        write_state({**TrainingState(Drawing(), *placeholders(), {}).collect(3)}, tmp_path / "now.pt")
        return read_state(tmp_path / "now.pt")

    state = state_of(3)
    drawn = draw()
    draw_numbers(tmp_path, 4)
    restore_random_numbers(state)
    assert draw() == drawn


def placeholders() -> tuple[torch.optim.lr_scheduler.LRScheduler, UnpairedSampler]:
    schedule = torch.optim.lr_scheduler.StepLR(Drawing().optimizer, 1)
    return schedule, UnpairedSampler(cast(UnpairedSlices, Draws()), 2, 3)


def test_as_many_processes_as_wrote_a_state_have_to_go_on_from_it(tmp_path: Path) -> None:
    state = TrainingState(Drawing(), *placeholders(), {"seed": 0})
    written = state.collect(3)
    write_state({**written, "processes": written["processes"] * 2}, tmp_path / NAME)
    message = refusal(lambda: state.read(tmp_path / NAME))
    assert "2 processes wrote this checkpoint together and 1 are running now: start the same number." in message


def test_versions_of_the_software_may_change_between_sessions(tmp_path: Path) -> None:
    one, other = (
        TrainingState(Drawing(), *placeholders(), {"fingerprint": {"versions": {"monai": version}, "spacing": (1, 2)}})
        for version in ("1", "2")
    )
    write_state(one.collect(0), tmp_path / NAME)
    other.read(tmp_path / NAME)


def test_a_checkpoint_from_before_fingerprints_had_statistics_resumes(tmp_path: Path) -> None:
    fingerprint = {"spacing": (1, 2)}
    before, now = (
        TrainingState(Drawing(), *placeholders(), {"fingerprint": content})
        for content in (fingerprint, {**fingerprint, "statistics": {"structures": {}}})
    )
    write_state(before.collect(0), tmp_path / NAME)
    now.read(tmp_path / NAME)


def test_a_state_of_other_networks_is_refused_in_a_sentence() -> None:
    state = TrainingState(Drawing(), *placeholders(), {})
    message = refusal(lambda: state.restore({**state.collect(0), "update": {"drawn": []}}, 3))
    assert "other networks or optimizers" in message


# --- When it is written ----------------------------------------------------------------------------------------------


class Counted:
    """Stands for a training's state; keeps the iterations that were collected, and the exit status of a stop."""

    def __init__(self) -> None:
        self.collected: list[int] = []
        self.status = 0

    def collect(self, iteration: int) -> dict[str, Any]:
        self.collected.append(iteration)
        return {"format": FORMAT, "update": {}, "iteration": iteration}


def save(folder: Path, interval: int, at: Mapping[int, int] | None = None) -> Counted:
    """Runs an engine for 2 epochs of 4 iterations, in some of which a signal comes, and returns what it saved."""

    def step(engine: Engine, batch: Any) -> None:
        cast(Any, engine.state).device = "cpu"
        if at and engine.state.iteration in at:
            os.kill(os.getpid(), at[engine.state.iteration])

    counted = Counted()
    try:
        go([StateSaver(cast(TrainingState, counted), folder, interval)], step, epochs=2)
    except Interrupted as error:
        counted.status = error.status
    return counted


@pytest.mark.parametrize(
    ("interval", "saved"), [(1, [1, 2, 3, 4, 5, 6, 7, 8]), (3, [3, 4, 6, 8]), (4, [4, 8]), (500, [4, 8])]
)
def test_states_are_written_at_the_interval_and_after_each_epoch_and_once_each(
    interval: int, saved: list[int], tmp_path: Path
) -> None:
    assert save(tmp_path, interval).collected == saved
    assert read_state(tmp_path / NAME)["iteration"] == 8


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("iteration", [2, 4, 7])
def test_a_signal_writes_the_state_of_the_iteration_that_it_came_in(
    iteration: int, number: int, tmp_path: Path
) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    assert save(tmp_path, 500, {iteration: number}).status == 128 + number
    assert read_state(tmp_path / NAME)["iteration"] == iteration
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers


@posix
def test_after_a_first_signal_and_after_the_run_signals_mean_what_they_did_before(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []
    saver = StateSaver(cast(TrainingState, Counted()), tmp_path, 1)

    def step(engine: Engine, batch: Any) -> None:
        cast(Any, engine.state).device = "cpu"
        seen.append(signal.getsignal(signal.SIGINT))
        os.kill(os.getpid(), signal.SIGTERM)
        seen.append(signal.getsignal(signal.SIGINT))

    with pytest.raises(Interrupted, match="SIGTERM after iteration 1"):
        go([saver], step)
    assert seen[0] != before
    assert seen[1] == before


def test_a_run_in_another_thread_saves_and_takes_no_signals(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    saved = SimpleNamespace(counted=Counted())

    def run() -> None:
        saved.counted = save(tmp_path, 3)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert saved.counted.collected == [3, 4, 6, 8]
    assert signal.getsignal(signal.SIGTERM) == before
