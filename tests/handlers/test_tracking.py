"""Tracking: TensorBoard and MLflow get every loss of the adversarial training under its name."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from conftest import RECOMMENDED, TINY, run_bundle
from sifa.adaptation.sifa_terms import TERMS as SIFA_TERMS
from sifa.reports.scalar_groups import group_of
from sifa.reports.selection_table import SCORES
from sifa.utils.keys import UPDATES, LossTerms
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.slow

OFF = (LossTerms.RANDOM_APPEARANCE, LossTerms.TARGET_SEGMENTATION)
TERMS = sorted({str(term.value) for terms in SIFA_TERMS.values() for term in terms if term not in OFF})
LOSSES = {"loss", *TERMS, *(f"{name}_loss" for name in UPDATES)}
SCALARS = {
    *LOSSES,
    *(f"{name}_{what}" for name in UPDATES for what in ("gradient_norm", "learning_rate")),
    *(f"segmenter_{term}_weight" for term in ("auxiliary_adversarial", "prediction_adversarial", "self_training")),
}
VALIDATION = {f"validation/{name}" for name in ("mean_dice", "surface_distance_voxels", "surface_distance_mm")}
MISSING = [name for name in ("mlflow", "sqlalchemy", "alembic") if importlib.util.find_spec(name) is None]
needs_mlflow = pytest.mark.skipif(bool(MISSING), reason=f"MLflow's SQLite tracking lacks {', '.join(MISSING)}")


def read_table(folder: Path) -> dict[str, dict[int, float]]:
    """Returns by column of the training's `scalars.csv` its values by iteration; a term may begin in a later epoch."""
    with open(folder / "scalars.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {name: {int(row["iteration"]): float(row[name]) for row in rows if row[name]} for name in rows[0]}


def test_tensorboard_gets_every_loss_rate_and_norm_of_every_iteration(trained: Path) -> None:
    events = EventAccumulator(str(trained))
    events.Reload()
    tags = {f"{group_of(name).tag}/{name}": name for name in SCALARS}
    assert set(events.Tags()["scalars"]) == {*tags, *(f"selection/{name}" for name in SCORES), *VALIDATION}
    table = read_table(trained)
    for tag, name in tags.items():
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == list(table[name])
        assert [scalar.value for scalar in scalars] == pytest.approx(list(table[name].values()))
    assert list(table["self_training"]) == [3, 4]
    assert list(table["loss"]) == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def tracked(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a tiny training with `--tracking mlflow`, run in an empty folder beside it."""
    output, cwd = tmp_path_factory.mktemp("tracked") / "run", tmp_path_factory.mktemp("cwd")
    options = {**TINY, "val_interval": 1, "tracking": "mlflow"}
    configs = RECOMMENDED
    run_bundle("training", configs, cwd=cwd, dataset_dir=phantom, output_dir=output, **options)
    assert not list(cwd.iterdir())
    return output


def read_runs(folder: Path) -> tuple[Any, list[Any]]:
    """Returns a client of the database that tracking wrote, and the runs in it."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlruns.db'}")
    experiment = client.get_experiment_by_name("monai_experiment")
    assert experiment is not None
    return client, list(client.search_runs([experiment.experiment_id]))


@needs_mlflow
def test_mlflow_gets_the_mean_of_every_loss_of_each_epoch(tracked: Path) -> None:
    client, (run,) = read_runs(tracked)
    assert run.info.status == "FINISHED"
    assert run.data.params["max_epochs"] == "2"
    table = read_table(tracked)
    for name in LOSSES:
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda metric: metric.step)
        epochs = {epoch: [value for step, value in table[name].items() if (step + 1) // 2 == epoch] for epoch in (1, 2)}
        means = {epoch: sum(values) / len(values) for epoch, values in epochs.items() if values}
        assert [metric.step for metric in history] == list(means) == ([2] if name == "self_training" else [1, 2])
        assert [metric.value for metric in history] == pytest.approx(list(means.values()))


@needs_mlflow
def test_mlflow_gets_the_segmenters_loss_of_each_iteration_and_the_dice(tracked: Path) -> None:
    client, (run,) = read_runs(tracked)
    history = sorted(client.get_metric_history(run.info.run_id, "train_loss"), key=lambda metric: metric.step)
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    assert [metric.value for metric in history] == pytest.approx(list(read_table(tracked)["loss"].values()))
    assert 0 <= run.data.metrics["mean_dice"] <= 1
    assert len(client.get_metric_history(run.info.run_id, "mean_dice")) == 2


@needs_mlflow
def test_mlflow_gets_the_losses_of_a_training_without_adaptation(phantom: Path, tmp_path: Path) -> None:
    configs = [*RECOMMENDED, "source_only.yaml"]
    options = {**TINY, "epochs": 1, "tracking": "mlflow"}
    run_bundle("training", configs, dataset_dir=phantom, output_dir=tmp_path / "run", **options)
    _, (run,) = read_runs(tmp_path / "run")
    table = read_table(tmp_path / "run")
    measured = {"mean_dice", "surface_distance_voxels", "surface_distance_mm"}  # after the last epoch
    assert set(run.data.metrics) == {*table, *measured, "train_loss"} - {"epoch", "iteration"}
    assert "loss" in run.data.metrics
