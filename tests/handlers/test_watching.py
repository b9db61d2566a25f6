"""Watching a training: pictures, warnings and stops; on several processes only the main one writes and shows."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import refusal
from engines import ADAPTED, STRUCTURES, date_events_back, go, saver, scripted, slices
from ignite.engine import Engine
from monai.data import MetaTensor, decollate_batch
from PIL import Image
from sifa.handlers import (
    ImageGrid,
    RunRecord,
    ScalarLog,
    TrainingProgress,
    TrainingReport,
    TrainingWatch,
    ValidationSchedule,
)
from sifa.networks.weights import load_weights
from sifa.reports.slice_grid import CELL, DPI, TOP
from sifa.utils.run_warnings import collect_warnings
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

# --- pictures ---


def draw(
    folder: Path,
    batch: Sequence[str] = ("source_image", "source_label", "target_image"),
    output: Sequence[str] = (*ADAPTED, "pred"),
    decollate: bool = True,
    size: tuple[int, int] = (16, 16),
    **options: Any,
) -> Path:
    """Runs 5 iterations, or what is left of them, with pictures; as in a trainer, batch and output are decollated."""
    taken, made = slices(batch, *size), {**slices(output, *size), "loss": torch.tensor(1.0)}

    def step(engine: Engine, given: Any) -> Any:
        state: Any = engine.state
        if decollate:
            state.batch = decollate_batch({name: MetaTensor(value) for name, value in taken.items()})
            return decollate_batch(made)
        state.batch = taken
        return made

    done = options.pop("done", 0)
    go([ImageGrid(folder, **{"structures": STRUCTURES, "interval": 2, **options})], step, iterations=5, done=done)
    return folder / "images"


def drawn(folder: Path) -> list[str]:
    """Returns the names of the pictures in a folder."""
    return sorted(path.name for path in folder.glob("*.png"))


@pytest.mark.parametrize("decollate", [True, False])
def test_a_picture_is_drawn_every_so_many_iterations_and_at_the_last(decollate: bool, tmp_path: Path) -> None:
    folder = draw(tmp_path, decollate=decollate)

    assert drawn(folder) == ["iteration_000002.png", "iteration_000004.png", "iteration_000005.png"]


def test_a_picture_has_a_column_for_each_role_and_a_row_for_each_slice(tmp_path: Path) -> None:
    with Image.open(draw(tmp_path, structures=None, size=(16, 32)) / "iteration_000005.png") as picture:
        picture.load()
        width, height = picture.size
    assert width == pytest.approx(7 * CELL * DPI, abs=2)
    slice_height = CELL * (16 + 1) / (32 + 1)  # with a white edge of a pixel
    assert height == pytest.approx((TOP + 2 * slice_height) * DPI, abs=2)


def test_without_adaptation_the_prediction_lies_over_the_source(tmp_path: Path) -> None:
    names = ("source_image", "source_label")
    with Image.open(draw(tmp_path, batch=names, output=["pred"], structures=None) / "iteration_000005.png") as picture:
        pixels = np.asarray(picture).astype(int)
    assert pixels.shape[1] == pytest.approx(2 * CELL * DPI, abs=2)
    colorful = np.ptp(pixels, axis=2).max(axis=0) > 30
    assert not colorful[: len(colorful) // 2].any()
    assert colorful[len(colorful) // 2 :].any()


def test_fewer_slices_are_drawn_when_asked_or_where_the_batch_holds_fewer(tmp_path: Path) -> None:
    heights = []
    for rows in (1, 2, 9):
        with Image.open(draw(tmp_path / str(rows), rows=rows) / "iteration_000005.png") as picture:
            heights.append(picture.height)
    assert heights[0] < heights[1] == heights[2]


def test_tensorboard_gets_the_same_pictures(tmp_path: Path) -> None:
    folder = draw(tmp_path)

    events = EventAccumulator(str(folder))
    events.Reload()
    images = events.Images("images")
    assert [image.step for image in images] == [2, 4, 5]
    with Image.open(folder / "iteration_000005.png") as picture:
        assert (images[-1].width, images[-1].height) == picture.size
    assert not list(tmp_path.glob("events*"))  # those of the scalars would not be followed any more


def test_training_that_goes_on_replaces_the_pictures_after_its_iteration(tmp_path: Path) -> None:
    folder = draw(tmp_path)
    first = (folder / "iteration_000002.png").stat().st_mtime_ns
    (folder / "iteration_000099.png").touch()  # of a run that was longer
    date_events_back(folder)

    draw(tmp_path, done=3)

    assert drawn(folder) == ["iteration_000002.png", "iteration_000004.png", "iteration_000005.png"]
    assert (folder / "iteration_000002.png").stat().st_mtime_ns == first
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [image.step for image in events.Images("images")] == [2, 4, 5]


@pytest.mark.parametrize("options", [{"interval": 0}, {"rows": 0}])
def test_pictures_of_nothing_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    assert "ImageGrid" in refusal(lambda: ImageGrid(tmp_path, **options))


# --- watch ---


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the warnings of the watch."""
    return [record.getMessage() for record in caplog.records if record.name == "sifa.handlers.training_watch"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_stops_training_with_a_sentence(value: float, tmp_path: Path) -> None:
    step = scripted({"source_cycle": [1, 1, value, 1], "loss": [1, 1, value, 1], "other": [1, 1, 1, 1]})

    message = refusal(lambda: go([TrainingWatch(tmp_path)], step, epochs=2, iterations=2))

    for part in ("source_cycle, loss", "epoch 2, iteration 3", "start again", "precision float32"):
        assert part in message
    assert "other" not in message
    assert (tmp_path / "warnings.txt").read_text(encoding="utf-8") == f"{message}\n"


def test_a_stop_leaves_the_good_weights_on_disk(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)

    def step(engine: Engine, batch: Any) -> dict[str, torch.Tensor]:
        value = engine.state.iteration if engine.state.iteration < 4 else math.nan
        nn.init.constant_(network.weight, value)
        return {"loss": torch.tensor(1.0), "segmenter_gradient_norm": torch.tensor(value)}

    handlers = [saver(network, tmp_path), TrainingWatch(tmp_path)]
    refusal(lambda: go(handlers, step, epochs=3, iterations=2))

    assert float(load_weights(nn.Linear(1, 1), tmp_path / "model.pt").state_dict()["weight"]) == 2.0


def test_many_values_that_are_not_finite_are_counted_rather_than_listed(tmp_path: Path) -> None:
    step = scripted({f"term_{number}": [math.nan] for number in range(9)})

    assert "term_0, term_1, term_2 and 6 more:" in refusal(lambda: go([TrainingWatch(tmp_path)], step, iterations=1))


def test_it_warns_once_for_as_long_as_values_are_not_finite_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    step = scripted({"loss": [math.nan, math.nan, 1, math.nan]})

    go([TrainingWatch(tmp_path, on_nan="warn")], step)

    assert len(warned(caplog)) == 2
    assert "iteration 1," in warned(caplog)[0]
    assert "iteration 4," in warned(caplog)[1]
    assert (tmp_path / "warnings.txt").read_text(encoding="utf-8").splitlines() == warned(caplog)


def test_it_keeps_silent_when_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    step = scripted({"loss": [math.nan] * 4, "target_discriminator_loss": [0.0] * 4})

    go([TrainingWatch(tmp_path, on_nan="ignore", on_collapse="ignore", collapse_iterations=2)], step)

    assert not warned(caplog)
    assert not list(tmp_path.iterdir())


def test_gradients_that_overflow_now_and_then_are_normal_with_a_gradient_scaler(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    step = scripted({"loss": [1.0] * 60, "segmenter_gradient_norm": ([math.inf] * 19 + [1.0]) * 3})

    go([TrainingWatch(tmp_path, gradient_scaler=True)], step, iterations=60)

    assert not warned(caplog)


def test_gradients_that_keep_overflowing_cause_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    step = scripted({"loss": [1.0] * 50, "segmenter_gradient_norm": [math.inf] * 50})

    go([TrainingWatch(tmp_path, gradient_scaler=True)], step, iterations=50)

    (message,) = warned(caplog)
    assert "segmenter_gradient_norm" in message
    assert "bfloat16" in message


COLLAPSING: dict[str, Sequence[float]] = {
    "source_discriminator_loss": [0.2, 0.009, 0.009, 0.009, 0.009, 0.2, 0.009, 0.009, 0.009, 0.2],  # twice
    "target_discriminator_loss": [0.2, 0.009, 0.009, 0.2, 0.009, 0.009, 0.2, 0.009, 0.009, 0.2],  # never for long
    "segmenter_loss": [0.001] * 10,
}


def test_a_discriminator_that_always_wins_causes_a_warning_and_another_after_it_recovered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go([TrainingWatch(tmp_path, collapse_iterations=3)], scripted(COLLAPSING), iterations=10)

    first, second = warned(caplog)
    assert first.startswith("source_discriminator_loss: below 0.01 for 3 iterations in a row at epoch 1, iteration 4")
    assert "iteration 9" in second


def test_a_discriminator_that_always_wins_stops_training_when_asked(tmp_path: Path) -> None:
    watch = TrainingWatch(tmp_path, on_collapse="stop", collapse_iterations=3)

    message = refusal(lambda: go([watch], scripted(COLLAPSING), iterations=10))

    for part in ("source_discriminator_loss", "epoch 1, iteration 4", "adversarial_lr", "on_collapse"):
        assert part in message


def test_what_counts_as_low_can_be_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    go([TrainingWatch(tmp_path, collapse_below=0.001, collapse_iterations=3)], scripted(COLLAPSING), iterations=10)

    assert not warned(caplog)


@pytest.mark.parametrize("name", ["on_nan", "on_collapse"])
def test_a_choice_that_there_is_not_is_refused(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {name: "halt"}
    message = refusal(lambda: TrainingWatch(tmp_path, **options))
    for part in (name, "'halt'", "stop, warn, ignore"):
        assert part in message


def test_a_new_run_forgets_the_warnings_of_the_one_before_and_one_that_goes_on_does_not(tmp_path: Path) -> None:
    step = scripted({"loss": [math.nan, 1, 1, 1, math.nan, 1]})
    for epochs, done, expected in ((1, 0, 2), (1, 0, 2), (2, 3, 4)):
        collect_warnings(tmp_path, resumed=done > 0)
        logging.getLogger("sifa.fingerprint.extractor").warning("an early\nwarning")
        go([TrainingWatch(tmp_path, on_nan="warn")], step, epochs=epochs, iterations=3, done=done)
        lines = (tmp_path / "warnings.txt").read_text(encoding="utf-8").splitlines()
        assert len(lines) == expected
        assert lines[0] == "an early warning"


# --- validation ---


@pytest.mark.parametrize(("interval", "epochs", "expected"), [(4, 3, [3]), (2, 5, [2, 4, 5]), (1, 2, [1, 2])])
def test_the_last_epoch_is_always_validated(interval: int, epochs: int, expected: list[int]) -> None:
    validated: list[int] = []

    class Validator:
        def run(self, epoch: int) -> None:
            validated.append(epoch)

    validator: Any = Validator()
    go([ValidationSchedule(validator, interval)], epochs=epochs, iterations=2)

    assert validated == expected
    assert "val_interval" in refusal(lambda: ValidationSchedule(validator, 0))


# --- time ---


def test_the_time_that_is_left_is_estimated_after_a_few_iterations(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sifa")
    go([TrainingProgress()], epochs=2, iterations=20)
    (line,) = [record.getMessage() for record in caplog.records if "to go" in record.getMessage()]
    assert line.startswith("30 iterations to go at 0.")


def test_the_scale_of_the_paper_on_a_cpu_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    go([TrainingProgress(work=1.0 * 256 * 256 * 8)])
    assert "512 times the work of compact.yaml" in caplog.text
    caplog.clear()
    go([TrainingProgress(work=0.25**2 * 64 * 64 * 4)])
    assert "times the work" not in caplog.text


# --- processes ---


@pytest.mark.parametrize("module", ["scalars", "training_progress", "image_grid", "run_record", "training_report"])
def test_only_the_main_process_writes_and_shows(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sifa")
    monkeypatch.setattr(f"sifa.handlers.{module}.is_main_process", lambda: False)
    handlers = {
        "scalars": ScalarLog(tmp_path),
        "training_progress": TrainingProgress(),
        "image_grid": ImageGrid(tmp_path, interval=1),
        "run_record": RunRecord(tmp_path, 0),
        "training_report": TrainingReport(tmp_path),
    }

    go([handlers[module]])

    assert not list(tmp_path.iterdir())
    assert not caplog.records


def test_every_process_stops_but_only_the_main_one_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sifa.handlers.training_watch.is_main_process", lambda: False)
    step = scripted({"loss": [1.0, math.nan]})

    refusal(lambda: go([TrainingWatch(tmp_path)], step, iterations=2))
    go([TrainingWatch(tmp_path, on_nan="warn")], step, iterations=2)

    assert not warned(caplog)
    assert not list(tmp_path.iterdir())
