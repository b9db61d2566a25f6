"""What the handlers write and show while an engine runs: tables, scalars, weights, progress."""

from __future__ import annotations

import csv
import logging
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from builders import diagonal_affine, make_fingerprint, read_json, refusal
from engines import date_events_back, saver
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice, from_engine
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.handlers import EpochMeans, ResultsTable, ScalarLog, SurfaceDistance, TrainingProgress
from sifa.handlers.results_table import short_names
from sifa.networks.weights import load_weights
from sifa.utils.errors import InputError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

NAN = math.nan
STRUCTURES = {2: "liver", 1: "aorta"}  # out of order on purpose
HEADINGS = {"mean_dice": "Dice (%)", "surface": "ASD (voxels)"}
DICE = [[0.5, 1.0], [0.25, NAN], [0.75, 0.5]]  # volumes by structures, as shares
SURFACE = [[1.0, NAN], [2.0, NAN], [6.0, NAN]]


def read_csv(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a table."""
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# --- results ---


def named(*paths: str) -> list[dict[str, MetaTensor]]:
    """Returns a batch of images that know which files they come from."""
    return [{"image": MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": path})} for path in paths]


def tabulate(
    output_dir: Path,
    details: Mapping[str, Sequence[Sequence[float]]],
    batches: Sequence[Any] | None = None,
    **options: Any,
) -> None:
    """Runs an engine that has found these results with the table attached."""
    engine = Engine(lambda engine, batch: None)

    def measure(engine: Engine) -> None:
        state: Any = engine.state
        state.metric_details = {name: torch.tensor(values) for name, values in details.items()}

    engine.add_event_handler(Events.EPOCH_COMPLETED, measure)
    ResultsTable(output_dir, STRUCTURES, HEADINGS, **options).attach(engine)
    engine.run(batches or [named("/scans/a.nii.gz", "/scans/b.nii.gz"), named("/more/c.nii.gz")])


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the screen shows for `DICE` and `SURFACE`; the files go to the test's folder."""
    tabulate(tmp_path, {"mean_dice": DICE, "surface": SURFACE})
    return capsys.readouterr().out


def cells(shown: str) -> list[list[str]]:
    """Returns the rows of the table on the screen, without its lines."""
    rows = (line.replace("┃", "│").strip("│").split("│") for line in shown.splitlines() if line[:1] in "┃│")
    return [[cell.strip() for cell in row] for row in rows]


def test_the_csv_holds_a_row_per_volume_and_structure_with_dice_in_percent(tmp_path: Path, shown: str) -> None:
    rows = read_csv(tmp_path / "results.csv")

    assert [(row["volume"], row["structure"]) for row in rows] == [
        (volume, structure) for volume in ("a.nii.gz", "b.nii.gz", "c.nii.gz") for structure in ("aorta", "liver")
    ]
    assert [row["mean_dice"] for row in rows[:3]] == ["50.000000", "100.000000", "25.000000"]
    assert rows[3]["mean_dice"] == "n/a"
    assert [row["surface"] for row in rows] == ["1.000000", "n/a", "2.000000", "n/a", "6.000000", "n/a"]


def test_the_json_holds_means_deviations_and_counts_of_what_could_not_be_measured(tmp_path: Path, shown: str) -> None:
    results = read_json(tmp_path / "results.json")

    assert results["volumes"] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    dice, surface = results["metrics"]["mean_dice"], results["metrics"]["surface"]
    assert (dice["heading"], surface["heading"]) == ("Dice (%)", "ASD (voxels)")
    assert list(dice["structures"]) == ["aorta", "liver"]
    assert dice["structures"]["aorta"] == {
        "mean": 50.0,
        "std": pytest.approx(statistics.pstdev([50, 25, 75]), abs=1e-5),
        "not_available": 0,
        "volumes": [50.0, 25.0, 75.0],
    }
    assert dice["structures"]["liver"] == {
        "mean": 75.0,
        "std": 25.0,
        "not_available": 1,
        "volumes": [100.0, None, 50.0],
    }
    assert dice["mean"] == 62.5  # the mean of the structures' means, not of all volumes
    assert surface["structures"]["liver"] == {
        "mean": None,
        "std": None,
        "not_available": 3,
        "volumes": [None, None, None],
    }
    assert surface["structures"]["aorta"]["mean"] == surface["mean"] == 3.0


def test_the_screen_shows_volumes_then_means_with_n_a_and_its_count(shown: str) -> None:
    assert cells(shown) == [
        ["volume", "structure", "Dice (%)", "ASD (voxels)"],
        ["a.nii.gz", "aorta", "50.00", "1.00"],
        ["a.nii.gz", "liver", "100.00", "n/a"],
        ["b.nii.gz", "aorta", "25.00", "2.00"],
        ["b.nii.gz", "liver", "n/a", "n/a"],
        ["c.nii.gz", "aorta", "75.00", "6.00"],
        ["c.nii.gz", "liver", "50.00", "n/a"],
        ["mean", "aorta", "50.00", "3.00"],
        ["mean", "liver", "75.00 (1 n/a)", "n/a (3 n/a)"],
        ["mean", "all", "62.50", "3.00"],
    ]


def test_where_nothing_can_be_measured_the_files_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = [[NAN, NAN]]
    tabulate(tmp_path, {"mean_dice": nothing, "surface": nothing}, [named("/scans/a.nii.gz")])

    results = read_json(tmp_path / "results.json")
    assert all(metric["mean"] is None for metric in results["metrics"].values())
    assert all(row["mean_dice"] == row["surface"] == "n/a" for row in read_csv(tmp_path / "results.csv"))
    assert cells(capsys.readouterr().out)[-1] == ["mean", "all", "n/a", "n/a"]


def test_the_files_take_their_name_from_the_table_and_other_metrics_may_be_shares(tmp_path: Path) -> None:
    tabulate(tmp_path, {"mean_dice": DICE, "surface": DICE}, name="validation", percent=("surface",))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["validation.csv", "validation.json"]
    metrics = read_json(tmp_path / "validation.json")["metrics"]
    assert (metrics["mean_dice"]["mean"], metrics["surface"]["mean"]) == (0.625, 62.5)


def test_the_table_of_an_evaluator_pairs_each_volume_with_its_own_results(tmp_path: Path) -> None:
    """The whole way as the configs go it, run twice: the second run must not remember the first one's volumes."""
    affine = diagonal_affine((2.0, 2.0, 2.0))

    def volume(path: str, pred: slice, truth: slice) -> dict[str, Any]:
        """A bar along the first axis for aorta, nothing for liver in the prediction."""
        image, label = torch.zeros(3, 16, 16, 16), torch.zeros(3, 16, 16, 16)
        image[1, pred, 4:8, 4:8], label[1, truth, 4:8, 4:8] = 1, 1
        label[2, :2, :2, :2] = 1
        meta = {"filename_or_obj": path, "affine": torch.as_tensor(affine)}
        return {"image": MetaTensor(image, meta=meta), "label": MetaTensor(label, meta=meta)}

    volumes = [
        volume("/ct/same.nii.gz", slice(0, 8), slice(0, 8)),
        volume("/ct/half.nii.gz", slice(0, 4), slice(0, 8)),
        volume("/ct/none.nii.gz", slice(0, 0), slice(0, 8)),
    ]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(volumes), batch_size=1),
        network=nn.Identity(),
        key_val_metric={
            "mean_dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))
        },
        additional_metrics={"surface": SurfaceDistance(True, output_transform=from_engine(["pred", "label"]))},
        val_handlers=[ResultsTable(tmp_path, STRUCTURES, HEADINGS)],
    )
    evaluator.run()
    evaluator.run()

    rows = {(row["volume"], row["structure"]): row for row in read_csv(tmp_path / "results.csv")}
    assert len(rows) == 6
    assert rows["same.nii.gz", "aorta"]["mean_dice"] == "100.000000"
    assert rows["same.nii.gz", "aorta"]["surface"] == "0.000000"
    assert float(rows["half.nii.gz", "aorta"]["mean_dice"]) == pytest.approx(200 / 3, abs=1e-4)
    assert float(rows["half.nii.gz", "aorta"]["surface"]) > 0
    assert rows["none.nii.gz", "aorta"]["mean_dice"] == "0.000000"
    assert rows["none.nii.gz", "aorta"]["surface"] == "n/a"
    assert all(rows[f"{name}.nii.gz", "liver"]["surface"] == "n/a" for name in ("same", "half", "none"))
    assert read_json(tmp_path / "results.json")["metrics"]["surface"]["structures"]["liver"]["not_available"] == 3


# --- scalars ---


def train_with(handler: Any, epochs: int = 2, iterations: int = 3, done: int = 0, factor: float = 1.0) -> None:
    """Runs an engine from iteration `done` on; its loss is `factor` times the iteration, divided by 4."""

    def step(engine: Engine, batch: Any) -> dict[str, Any]:
        loss = torch.tensor(factor * engine.state.iteration / 4)
        return {"loss": loss, "cycle": loss * 2, "pred": torch.zeros(2, 2), "count": 3}

    engine = Engine(step)
    handler.attach(engine)
    engine.load_state_dict({"iteration": done, "max_epochs": epochs, "epoch_length": iterations})
    engine.run(range(iterations))


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    """Returns what TensorBoard shows of a scalar: iterations and values."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_scalars_of_every_iteration_go_to_a_table(tmp_path: Path) -> None:
    train_with(ScalarLog(tmp_path))

    rows = read_csv(tmp_path / "scalars.csv")
    assert list(rows[0]) == ["epoch", "iteration", "loss", "cycle"]  # images are no scalars
    assert [(int(row["epoch"]), int(row["iteration"])) for row in rows] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 4),
        (2, 5),
        (2, 6),
    ]
    assert [float(row["loss"]) for row in rows] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert all(float(row["cycle"]) == 2 * float(row["loss"]) for row in rows)


def test_the_same_scalars_go_to_event_files_for_tensorboard(tmp_path: Path) -> None:
    train_with(ScalarLog(tmp_path / "run"))

    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["losses/loss", "others/cycle"]
    assert curve(tmp_path / "run", "losses/loss") == [(n, n / 4) for n in range(1, 7)]


def test_scores_and_validations_of_epochs_go_to_tensorboard_at_the_last_iteration(tmp_path: Path) -> None:
    validator = Engine(lambda engine, batch: None)

    def validate(engine: Engine) -> None:
        validator.state.metrics = {"mean_dice": torch.tensor(0.5 * engine.state.epoch), "asd": NAN}
        validator.run([0])

    log = ScalarLog(tmp_path, validator=validator)
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(1.0)})
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(score=engine.state.epoch / 4, loss=1.0)
    )
    log.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), validate)
    engine.run(range(3), max_epochs=4)

    assert curve(tmp_path, "selection/score") == [(3, 0.25), (6, 0.5), (9, 0.75), (12, 1.0)]
    assert curve(tmp_path, "validation/mean_dice") == [(6, 1.0), (12, 2.0)]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["losses/loss", "selection/score", "validation/mean_dice"]


def test_only_every_so_many_iterations_are_recorded_when_asked(tmp_path: Path) -> None:
    train_with(ScalarLog(tmp_path, interval=2), epochs=2, iterations=5)

    assert [row["iteration"] for row in read_csv(tmp_path / "scalars.csv")] == ["2", "4", "6", "8", "10"]


def test_a_new_run_starts_the_table_and_the_curves_anew(tmp_path: Path) -> None:
    (tmp_path / "scalars.csv").write_text("epoch,iteration,other\n1,1,0.5\n", encoding="utf-8")
    train_with(ScalarLog(tmp_path), epochs=3)
    date_events_back(tmp_path)
    train_with(ScalarLog(tmp_path), epochs=1)

    rows = read_csv(tmp_path / "scalars.csv")
    assert [row["iteration"] for row in rows] == ["1", "2", "3"]
    assert list(rows[0]) == ["epoch", "iteration", "loss", "cycle"]
    assert curve(tmp_path, "losses/loss") == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_a_row_is_on_disk_as_soon_as_its_iteration_has_ended(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(1.0)})
    ScalarLog(tmp_path).attach(engine)
    lengths: list[tuple[int, int]] = []

    def look() -> None:
        lengths.append((len(read_csv(tmp_path / "scalars.csv")), len(curve(tmp_path, "losses/loss"))))

    engine.add_event_handler(Events.ITERATION_COMPLETED, look)
    engine.run(range(2), max_epochs=2)

    assert lengths == [(1, 1), (2, 2), (3, 3), (4, 4)]


@pytest.mark.parametrize("cut", ["", "2,6,1.5", "2,6,1.5,3.0"])
def test_training_that_goes_on_replaces_what_was_recorded_after_its_iteration(cut: str, tmp_path: Path) -> None:
    """A killed process can leave rows of iterations whose weights are lost, and half of a row."""
    train_with(ScalarLog(tmp_path / "whole"), epochs=3)
    train_with(ScalarLog(tmp_path / "killed"), epochs=2)
    table = tmp_path / "killed" / "scalars.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([*lines[:-1], cut]), encoding="utf-8")  # the last row, or a part of it, without its end
    date_events_back(tmp_path / "killed")

    train_with(ScalarLog(tmp_path / "killed"), epochs=3, done=4)

    assert table.read_bytes() == (tmp_path / "whole" / "scalars.csv").read_bytes()
    assert curve(tmp_path / "killed", "losses/loss") == [(n, n / 4) for n in range(1, 10)]


def test_rows_before_the_iteration_from_which_training_goes_on_stay_as_they_were(tmp_path: Path) -> None:
    train_with(ScalarLog(tmp_path))
    date_events_back(tmp_path)
    train_with(ScalarLog(tmp_path), done=4, factor=10)

    expected = [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0), (5, 12.5), (6, 15.0)]
    assert [(int(row["iteration"]), float(row["loss"])) for row in read_csv(tmp_path / "scalars.csv")] == expected
    assert curve(tmp_path, "losses/loss") == expected


def test_a_scalar_that_comes_later_gets_a_column_that_is_empty_before(tmp_path: Path) -> None:
    def step(engine: Engine, batch: Any) -> dict[str, Any]:
        later = {"weight": torch.tensor(0.5)} if engine.state.iteration in (3, 4) else {}
        return {"loss": torch.tensor(1.0), **later}

    engine = Engine(step)
    ScalarLog(tmp_path).attach(engine)
    engine.run(range(5))

    rows = read_csv(tmp_path / "scalars.csv")
    assert [row["weight"] for row in rows] == ["", "", "0.5", "0.5", ""]
    assert [row["loss"] for row in rows] == ["1.0"] * 5


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        train_with(ScalarLog(tmp_path / name))

    assert (tmp_path / "one" / "scalars.csv").read_bytes() == (tmp_path / "two" / "scalars.csv").read_bytes()


def test_a_folder_that_cannot_be_written_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file", encoding="utf-8")

    message = refusal(lambda: train_with(ScalarLog(tmp_path / "run")))

    assert str(tmp_path / "run" / "scalars.csv") in message
    assert "--output_dir" in message


def test_volumes_of_one_name_are_told_apart_by_their_folders() -> None:
    paths = ["/data/case_1/ct.nii.gz", "/data/case_2/ct.nii.gz", "/data/other.nii.gz"]

    assert short_names(paths) == ["case_1/ct.nii.gz", "case_2/ct.nii.gz", "other.nii.gz"]
    assert short_names(paths[1:]) == ["ct.nii.gz", "other.nii.gz"]
    assert short_names(["/data/a.nii.gz"]) == ["a.nii.gz"]


# --- weights ---


def test_the_pair_is_written_at_the_end_of_each_epoch_with_the_weights_of_that_moment(tmp_path: Path) -> None:
    network, generator = nn.Linear(1, 1), nn.Linear(2, 2)
    found: list[tuple[float, list[str]]] = []

    def step(engine: Engine, batch: Any) -> None:
        nn.init.constant_(network.weight, engine.state.iteration)

    engine = Engine(step)
    saver(network, tmp_path / "run", generators={"target_generator": generator}).attach(engine)

    def look(engine: Engine) -> None:
        files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
        state = load_weights(nn.Linear(1, 1), tmp_path / "run" / "model.pt").state_dict()
        found.append((float(state["weight"]), files))
        for path in tmp_path.rglob("*.*"):
            path.unlink()

    engine.add_event_handler(Events.EPOCH_COMPLETED, look)
    engine.run(range(4), max_epochs=3)

    files = ["run/fingerprint.json", "run/generators/target_generator.pt", "run/model.pt"]
    assert found == [(4.0, files), (8.0, files), (12.0, files)]


def test_without_generators_the_pair_stands_alone_and_can_be_read_back(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    engine = Engine(lambda engine, batch: None)
    saver(network, tmp_path / "run").attach(engine)

    engine.run(range(2))

    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["fingerprint.json", "model.pt"]
    assert read_fingerprint(tmp_path / "run" / "fingerprint.json") == make_fingerprint()
    loaded = load_weights(nn.Linear(3, 2), tmp_path / "run" / "model.pt")
    assert np.array_equal(loaded(torch.eye(3)).detach(), network(torch.eye(3)).detach())


@pytest.mark.parametrize("keep_epochs", [False, True])
def test_a_pair_that_cannot_be_written_is_one_sentence(keep_epochs: bool, tmp_path: Path) -> None:
    (tmp_path / ("epochs" if keep_epochs else "model.pt.d")).write_text("in the way", encoding="utf-8")
    folder = tmp_path if keep_epochs else tmp_path / "model.pt.d"
    engine = Engine(lambda engine, batch: None)
    saver(nn.Linear(1, 1), folder, keep_epochs=keep_epochs).attach(engine)

    with pytest.raises(InputError, match="it cannot be written"):
        engine.run(range(1))


# --- progress ---


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Returns what is logged of 3 epochs of 4 iterations of 5 s, each after 1 s of waiting; they go on after some."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("ignite.handlers.timing.perf_counter", lambda: clock.now)
    caplog.set_level(logging.INFO, logger="sifa")

    class Data:
        def __iter__(self) -> Iterator[int]:
            for number in range(4):
                clock.now += 1
                yield number

    def step(engine: Engine, batch: Any) -> dict[str, Any]:
        clock.now += 4
        loss = torch.tensor(engine.state.iteration / 8)
        return {
            "loss": loss,
            "segmenter_loss": loss * 2,
            "cycle": loss,  # a term of a loss, not the loss of an update
            "pred": torch.zeros(2, 2),
        }

    def run(done: int) -> list[str]:
        engine = Engine(step)
        TrainingProgress().attach(engine)
        engine.load_state_dict({"iteration": done, "max_epochs": 3, "epoch_length": 4})
        engine.run(Data())
        return [record.getMessage() for record in caplog.records if record.name.startswith("sifa")]

    return run


def test_an_epoch_is_logged_with_its_losses_the_time_left_and_the_wait_for_data(
    log: Callable[[int], list[str]],
) -> None:
    assert [line for line in log(0) if line.startswith("epoch")] == [
        "epoch 1 of 3: segmenter 1.000; 20 s passed, about 40 s left, data wait 20.0 %",
        "epoch 2 of 3: segmenter 2.000; 40 s passed, about 20 s left, data wait 20.0 %",
        "epoch 3 of 3: segmenter 3.000; 60 s passed, about 0 s left, data wait 20.0 %",
    ]


def test_the_time_left_is_right_where_training_goes_on_in_the_middle_of_an_epoch(
    log: Callable[[int], list[str]],
) -> None:
    lines = [line for line in log(6) if line.startswith("epoch")]

    assert [line.split(";")[0] for line in lines] == ["epoch 2 of 3: segmenter 2.000", "epoch 3 of 3: segmenter 3.000"]
    assert " about 20 s left" in lines[0]
    assert " about 0 s left" in lines[1]


def test_without_a_terminal_no_bar_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    train_with(TrainingProgress())

    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_the_mean_of_each_loss_over_each_epoch_is_among_the_metrics() -> None:
    values = iter([1.0, 3.0, 10.0, 20.0])
    engine = Engine(lambda engine, batch: [{"loss": torch.tensor(value := next(values)), "other_loss": -value}])
    EpochMeans().attach(engine)
    seen: list[dict[str, float]] = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    engine.run([0, 1], max_epochs=2)
    assert seen == [{"loss": 2.0, "other_loss": -2.0}, {"loss": 15.0, "other_loss": -15.0}]
