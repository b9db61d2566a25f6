"""Several processes train as one: each part against one process that has all the data, and the real command."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from builders import read_json, refusal
from conftest import BUNDLE, TINY, as_flags
from iterations import (
    EVERY_TERM,
    WIDTH,
    Kind,
    State,
    build_networks,
    draw_batch,
    largest_difference,
    state_of,
    train,
    update_of,
)
from monai.bundle import ConfigWorkflow
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from sifa.adaptation.source_only import SourceOnly
from sifa.adaptation.target_statistics import TargetStatistics
from sifa.data.slice_cache import VolumeSlices
from sifa.data.unpaired_slices import UnpairedSampler
from sifa.networks import with_synchronized_batch_norm
from sifa.networks.batch_norm import running_statistics_held
from sifa.networks.synchronized_batch_norm import SynchronizedBatchNorm2d
from sifa.training.checkpoint import NAME, TrainingState, read_state, write_state
from sifa.training.iteration_update import IterationUpdate
from sifa.utils.distributed import (
    all_reduce_max,
    any_process,
    average_gradients,
    is_main_process,
    join_processes,
    mean_over_processes,
    rank,
    share_weights,
    sum_over_processes,
    wait_for_all,
    world_size,
)
from sifa.utils.errors import find_input_error
from torch import distributed, multiprocessing, nn

pytestmark = pytest.mark.slow

GLOO = distributed.is_available() and distributed.is_gloo_available()
gloo = pytest.mark.skipif(not GLOO, reason="this torch is built without gloo, by which processes on CPUs talk")
SECONDS = 300  # to wait for a process
KINDS = [SIFA, SIFASimultaneous, SourceOnly]
Batch = dict[str, torch.Tensor]


def loopback() -> dict[str, str]:
    """The environment in which gloo talks over the loopback interface only."""
    interfaces = {name for _, name in socket.if_nameindex()}
    return next(({"GLOO_SOCKET_IFNAME": name} for name in ("lo", "lo0") if name in interfaces), {})


# --- What runs alike in each of two processes, and in one that has all the data --------------------------------------


def whole_batches() -> list[Batch]:
    """Two batches of four slices of each domain."""
    pairs = [(draw_batch(0), draw_batch(1)), (draw_batch(2), draw_batch(3))]
    return [{key: torch.cat([one[key], other[key]]) for key in one} for one, other in pairs]


def share_of(batch: Batch) -> Batch:
    """This process's part of a batch."""
    return {key: value.chunk(world_size())[rank()] for key, value in batch.items()}


def iterate(kind: Kind) -> tuple[State, list[dict[str, float]]]:
    """Runs two iterations; returns all weights and statistics, and the scalars that were reported."""
    networks = build_networks()
    networks.segmenter = with_synchronized_batch_norm(networks.segmenter, "cpu")
    batches = [share_of(batch) for batch in whole_batches()]
    outputs = train(update_of(networks, EVERY_TERM, kind=kind), batches)
    scalars = [{name: value.item() for name, value in one.items() if value.ndim == 0} for one in outputs]
    return state_of(networks), scalars


def normalize(held: bool = False, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Normalizes a process's part of a batch and descends; returns what that leaves, gradients as one process has."""
    generator = torch.Generator().manual_seed(0)
    images, coefficients = (torch.rand(4, 3, 5, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    layer = SynchronizedBatchNorm2d(3, momentum=0.3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    if dtype is not torch.float64:
        layer.float()
    x = images.chunk(world_size())[rank()].mul(3).add(1).to(dtype).requires_grad_()
    with running_statistics_held(layer) if held else nullcontext():
        y = layer(x)
    (y * coefficients.chunk(world_size())[rank()]).mean().backward()
    gradients = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
    average_gradients(gradients)
    assert x.grad is not None
    return {"output": y.detach(), "input": x.grad / world_size(), "weight": gradients[0], "bias": gradients[1]} | {
        name: buffer.clone() for name, buffer in layer.named_buffers()
    }


def measure() -> dict[str, torch.Tensor]:
    """The statistics that all processes measure on the same slices."""
    segmenter = with_synchronized_batch_norm(build_networks().segmenter, "cpu")
    images = torch.cat([draw_batch(seed)["target_image"] for seed in range(3)])
    TargetStatistics(VolumeSlices([{"image": images}]), batch_size=4).measure(segmenter)
    return dict(segmenter.named_buffers())


def descend_along_sum() -> torch.Tensor:
    """The gradient of (sum of all w x)^2, of which each process has a part of x."""
    w = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64).chunk(world_size())[rank()]
    sum_over_processes((w * x).sum()).square().backward()
    assert w.grad is not None
    average_gradients([w.grad])
    return w.grad


def talk() -> dict[str, Any]:
    """What each of the smaller functions returns."""
    gradients = [torch.full((2, 3), float(rank())), torch.tensor(10.0 * rank()), torch.rand(2, 4, 3, 3)]
    gradients[2] = (torch.ones(2, 4, 3, 3) * rank()).to(memory_format=torch.channels_last)
    average_gradients(gradients)
    torch.manual_seed(rank())
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    network(torch.rand(2, 4, 5, 5))
    share_weights([network])
    wait_for_all()
    scalars = {"loss": torch.tensor(1.0 + rank()), "norm": torch.tensor(rank(), dtype=torch.float64)}
    means = mean_over_processes(scalars, "cpu")
    return {
        "gradients": gradients,
        "network": network.state_dict(),
        "means": {name: (value.item(), value.dtype) for name, value in means.items()},
        "any": [any_process(flag, "cpu") for flag in (False, rank() == 1, True)],
        "highest": all_reduce_max(5 - rank(), "cpu"),
        "main": is_main_process(),
    }


class Slices:
    """Stands for a data set, of which the sampler needs the sizes."""

    source_size, target_size, labeled_size = 7, 5, 0

    def __len__(self) -> int:
        return 7


def collect_and_restore() -> tuple[dict[str, Any], bool]:
    """The state of a training with pools, and whether a process gets its own pool back from it."""

    def state_of_run(seed: int) -> TrainingState:
        update = update_of(build_networks(), EVERY_TERM, ImagePool(2, seed), ImagePool(2, seed + 1))
        schedule = torch.optim.lr_scheduler.StepLR(cast(Any, update.method.optimizers["segmenter"]), 1)
        return TrainingState(update, schedule, UnpairedSampler(cast(Any, Slices()), 1, 1), {})

    def pool_of(state: TrainingState) -> ImagePool:
        return cast(SIFA, cast(IterationUpdate, state.update).method).target_pool

    written, other = state_of_run(2 * rank()), state_of_run(50)
    pool_of(written)(torch.full((1, 1, 2, 2), float(rank())))
    state = written.collect(3)
    other.restore(state, 4)
    pool = pool_of(other)
    own = torch.equal(pool.generator.get_state(), torch.Generator().manual_seed(2 * rank()).get_state())
    return state, own and pool.images[0].unique().tolist() == [rank()]


EXPERIMENTS: dict[str, Callable[[], Any]] = {
    "norm": normalize,
    "held": lambda: normalize(held=True),
    "measured": measure,
    "bfloat16": lambda: normalize(dtype=torch.bfloat16),
    "sum": descend_along_sum,
    "talk": talk,
    "state": collect_and_restore,
    **{kind.__name__: lambda kind=kind: iterate(kind) for kind in KINDS},  # type: ignore[misc]  # lambdas' defaults
}


def take_part(number: int, folder: str) -> None:
    """Is one of two processes; writes what the experiments return."""
    torch.set_num_threads(1)
    os.environ.update(loopback())
    distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=number, world_size=2, timeout=timedelta(seconds=SECONDS)
    )
    torch.save({name: experiment() for name, experiment in EXPERIMENTS.items()}, Path(folder) / f"{number}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the experiments returned in each of two processes."""
    if not GLOO:
        pytest.skip("this torch is built without gloo, by which processes on CPUs talk")
    folder = tmp_path_factory.mktemp("two")
    multiprocessing.spawn(take_part, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{number}.pt", weights_only=False) for number in (0, 1)]


# --- Parts -----------------------------------------------------------------------------------------------------------


def together(found: Sequence[dict[str, Any]], name: str) -> dict[str, torch.Tensor]:
    """What both processes have of a normalized batch, as one; what they share has to be equal."""
    one, other = (part[name] for part in found)
    split = ("output", "input")
    for key in one.keys() - set(split):
        assert torch.equal(one[key], other[key]), key
    return {key: torch.cat([one[key], other[key]]) if key in split else one[key] for key in one}


def normalize_by_torch(held: bool = False) -> dict[str, torch.Tensor]:
    """`normalize` with torch's own batch norm, on the whole batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "SynchronizedBatchNorm2d", nn.BatchNorm2d)
        return normalize(held)


def test_target_statistics_of_several_processes_are_those_of_one(found: list[dict[str, Any]]) -> None:
    expected = measure()
    one, other = (part["measured"] for part in found)
    assert one.keys() == other.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(one[name], other[name]), name
        tolerance = 0.05 if name.endswith("running_var") else 1e-9  # of twice the pixels n / (n - 1) is another
        torch.testing.assert_close(one[name], value, rtol=tolerance, atol=1e-12, msg=name)


@pytest.mark.parametrize("name", ["norm", "held"])
def test_synchronized_batch_norm_is_batch_norm_of_the_whole_batch(name: str, found: list[dict[str, Any]]) -> None:
    actual, expected = together(found, name), normalize_by_torch(held=name == "held")
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-10, atol=1e-12)
    assert actual["num_batches_tracked"] == (0 if name == "held" else 1)


def test_synchronized_batch_norm_keeps_the_type_of_its_input_and_computes_in_that_of_its_weights(
    found: list[dict[str, Any]],
) -> None:
    actual, expected = together(found, "bfloat16"), normalize_by_torch()
    assert actual["output"].dtype is actual["input"].dtype is torch.bfloat16
    assert actual["running_var"].dtype is actual["weight"].dtype is torch.float32
    torch.testing.assert_close(actual["output"].double(), expected["output"], rtol=0.01, atol=0.05)
    torch.testing.assert_close(actual["running_mean"].double(), expected["running_mean"], rtol=0.01, atol=0)


def test_alone_synchronized_batch_norm_is_batch_norm() -> None:
    actual, expected = normalize(), normalize_by_torch()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def test_a_segmenter_whose_batch_norm_is_replaced_is_the_same_one() -> None:
    segmenter, replaced = build_networks().segmenter, build_networks().segmenter
    assert with_synchronized_batch_norm(replaced, "cpu") is replaced
    kinds = {type(layer) for layer in replaced.modules() if isinstance(layer, nn.BatchNorm2d)}
    assert kinds == {SynchronizedBatchNorm2d}
    assert segmenter.state_dict().keys() == replaced.state_dict().keys()
    image = draw_batch()["source_image"]
    for training in (False, True):
        assert torch.equal(segmenter.train(training)(image), replaced.train(training)(image))


def test_the_gradient_of_a_sum_over_processes_is_that_of_one_process(found: list[dict[str, Any]]) -> None:
    # (2 x1 + 3 x2)^2 with x1 = 1 + 3 and x2 = 2 + 4 has the gradient 2 * 26 * (4, 6)
    assert descend_along_sum().tolist() == [208, 312]
    assert [part["sum"].tolist() for part in found] == [[208, 312]] * 2


def test_gradients_become_their_means_whatever_their_order_in_memory(found: list[dict[str, Any]]) -> None:
    for part in found:
        first, second, third = part["talk"]["gradients"]
        assert torch.equal(first, torch.full((2, 3), 0.5))
        assert second.item() == 5
        assert torch.equal(third, torch.full((2, 4, 3, 3), 0.5))
        assert third.is_contiguous(memory_format=torch.channels_last)


def test_all_processes_begin_with_the_weights_and_statistics_of_the_main_one(found: list[dict[str, Any]]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    network(torch.rand(2, 4, 5, 5))
    for part in found:
        for name, value in network.state_dict().items():
            assert torch.equal(part["talk"]["network"][name], value), name


def test_what_processes_tell_each_other_is_the_same_on_all(found: list[dict[str, Any]]) -> None:
    for number, part in enumerate(found):
        told = part["talk"]
        assert told["means"] == {"loss": (1.5, torch.float32), "norm": (0.5, torch.float64)}
        assert told["any"] == [False, True, True]
        assert told["highest"] == 5
        assert told["main"] == (number == 0)


def test_alone_nothing_changes() -> None:
    assert (world_size(), rank(), is_main_process()) == (1, 0, True)
    gradient = torch.ones(2)
    average_gradients([gradient])
    assert gradient.tolist() == [1, 1]
    assert sum_over_processes(gradient) is gradient
    assert mean_over_processes({"loss": gradient[0]}, "cpu") == {"loss": 1}
    assert [any_process(flag, "cpu") for flag in (False, True)] == [False, True]


# --- Whole iterations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_iterate_as_one_with_twice_the_batch(kind: Kind, found: list[dict[str, Any]]) -> None:
    expected, scalars = iterate(kind)
    for part in found:
        state, reported = part[kind.__name__]
        difference, where = largest_difference(state, expected)
        assert difference < 1e-9, where
        for one, other in zip(reported, scalars, strict=True):
            assert one == pytest.approx(other, rel=1e-9)
    assert largest_difference(expected, state_of(build_networks()))[0] > 1e-3


def test_the_state_holds_what_each_process_has_of_its_own_and_gives_it_back(
    found: list[dict[str, Any]], tmp_path: Path
) -> None:
    (state, own), (other, own_of_other) = (part["state"] for part in found)
    assert own
    assert own_of_other
    write_state(state, tmp_path / NAME)
    pools = [process["target_pool"]["images"] for process in read_state(tmp_path / NAME)["processes"]]
    assert [image.unique().tolist() for (image,) in pools] == [[0], [1]]
    assert len(other["processes"]) == 2


# --- The real command ------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {**TINY, "width": WIDTH, "batch_size": 1, "iterations_per_epoch": 3, "val_interval": 1}
CONFIGS = ("train.yaml", "recommended.yaml", "compact.yaml", "multi_gpu_train.yaml")


def start_two(phantom: Path, output: Path) -> subprocess.Popen[str]:
    """Starts a training in two processes, which goes on from what is in `output`."""
    files = ",".join(f"'{BUNDLE / 'configs' / name}'" for name in CONFIGS)
    flags = {"config_file": f"[{files}]", "dataset_dir": phantom, "output_dir": output, "resume": "auto", **SETTINGS}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.Popen(
        [*torchrun, "-m", "monai.bundle", "run", "training", *as_flags(flags)],
        cwd="/",
        env={"OMP_NUM_THREADS": "1", **environment, **loopback()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def rows_of(output: Path) -> list[dict[str, str]]:
    table = output / "scalars.csv"
    return list(csv.DictReader(table.open(encoding="utf-8"))) if table.is_file() else []


@pytest.fixture(scope="module")
def two_sessions(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a training in two processes that got SIGTERM in its first epoch and went on, and what it said."""
    output = tmp_path_factory.mktemp("torchrun") / "run"
    process, until = start_two(phantom, output), time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < until and not rows_of(output):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert 1 <= read_state(output / NAME)["iteration"] < 6, said
    process = start_two(phantom, output)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    return output, said


@gloo
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_a_run_of_two_processes_stops_when_torchrun_is_told_to_and_says_how_to_go_on(
    two_sessions: tuple[Path, str],
) -> None:
    output, said = two_sessions
    lines = [line for line in said.splitlines() if line.startswith("error: SIGTERM after iteration ")]
    assert lines
    assert all(line.endswith(f"the checkpoint is {output / NAME}: resume with --resume auto.") for line in lines)


@gloo
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_two_processes_write_one_set_of_files_and_go_on_from_where_they_were(
    two_sessions: tuple[Path, str],
) -> None:
    output, _ = two_sessions
    assert [row["iteration"] for row in rows_of(output)] == ["1", "2", "3", "4", "5", "6"]
    assert read_json(output / "validation.json")["volumes"] == ["ct_validation_000.nii.gz"]
    sessions = read_json(output / "run.json")["sessions"]
    assert [session["processes"] for session in sessions] == [2, 2]
    assert sessions[1]["last_iteration"] == 6
    files = sorted(path.name for path in output.iterdir() if not path.name.startswith("events.out.tfevents."))
    assert files == [
        *("checkpoints", "config.yaml", "fingerprint.json", "generators", "images", "last", "model.pt", "report.html"),
        *("run.json", "scalars.csv", "selection.csv", "validation.csv", "validation.json", "warnings.txt"),
    ]
    assert len(list(output.glob("events.out.tfevents.*"))) == len(sessions)
    state = read_state(output / NAME)
    assert (state["iteration"], len(state["processes"])) == (6, 2)
    assert not torch.equal(
        state["processes"][0]["target_pool"]["random"], state["processes"][1]["target_pool"]["random"]
    )


@gloo
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_two_processes_begin_as_one_with_twice_the_batch(
    two_sessions: tuple[Path, str], phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = workflow_here(CONFIGS[:3], phantom, tmp_path, monkeypatch, batch_size=2, epochs=1, val_interval=2)
    workflow.initialize()
    workflow.run()
    expected, row = rows_of(tmp_path)[0], rows_of(two_sessions[0])[0]
    actual = {name: value for name, value in row.items() if value}  # self-training begins in the second epoch
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = 1e-2 if name.endswith("_gradient_norm") else 1e-4
        assert float(actual[name]) == pytest.approx(float(value), rel=tolerance), name


def workflow_here(
    configs: Sequence[str], phantom: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> ConfigWorkflow:
    """The training in this process, which spares its start."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the config sets it
    files = [str(BUNDLE / "configs" / name) for name in configs]
    plain = {name: yaml.safe_load(str(value)) for name, value in SETTINGS.items()}
    places = {"dataset_dir": str(phantom), "output_dir": str(output)}
    return ConfigWorkflow(files, workflow_type="train", logging_file=False, **{**plain, **places, **settings})


def test_without_torchrun_the_overlay_is_refused_in_a_sentence(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    workflow = workflow_here(CONFIGS, phantom, tmp_path, monkeypatch)

    def run() -> None:
        try:
            workflow.run()
        except Exception as error:
            raise find_input_error(error) or error from None

    message = refusal(run)
    for part in ("multi_gpu_train.yaml", "torchrun --nproc_per_node", "leave that overlay out"):
        assert part in message
    assert not list(tmp_path.iterdir())


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "lower --nproc_per_node" in refusal(lambda: join_processes(torch.device("cuda", 1), 1.0))
