"""Every method through MONAI's real command line: one stage or two, with our additions or as published, resumed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import read_json
from conftest import RECOMMENDED, TINY, run_bundle
from sifa.training.checkpoint import NAME

pytestmark = pytest.mark.slow

SHORT: dict[str, Any] = {**TINY, "val_interval": 0, "epochs": 2, "iterations_per_epoch": 1}
PLAIN = ["train.yaml", "compact.yaml"]


def train(configs: list[str], phantom: Path, output: Path, check: bool = True, **options: Any) -> str:
    """Trains and returns standard error."""
    settings: dict[str, Any] = {**SHORT, **options}
    return run_bundle("training", configs, dataset_dir=phantom, output_dir=output, check=check, **settings).stderr


def error_of(configs: list[str], phantom: Path, output: Path, **options: Any) -> str:
    stderr = train(configs, phantom, output, check=False, **options)
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in stderr
    assert not (output / "model.pt").exists()
    return error


def columns_of(run: Path) -> set[str]:
    with open(run / "scalars.csv", encoding="utf-8", newline="") as stream:
        return set(next(csv.reader(stream)))


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(run / "model.pt", weights_only=True)
    return weights


@pytest.fixture(scope="module")
def source_stage(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("source_stage")
    train([*PLAIN, "source_only.yaml"], phantom, output)
    return output


@pytest.fixture(scope="module")
def translation_stage(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("translation_stage")
    train([*PLAIN, "cyclegan.yaml"], phantom, output)
    return output


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("dann", {"segmentation", "feature_adversarial", "feature_discriminator_loss"}),
        ("cyclegan", {"segmentation", "source_cycle", "target_adversarial", "source_generator_loss"}),
        ("masks_alone", {"mask_adversarial", "within_class", "mask_discriminator_loss"}),
    ],
)
@pytest.mark.parametrize("last", [[], ["published.yaml"]], ids=["recommended", "published"])
def test_a_method_of_one_stage_is_an_overlay_with_our_additions_or_as_published(
    method: str, own: set[str], last: list[str], phantom: Path, tmp_path: Path
) -> None:
    train([*RECOMMENDED, f"{method}.yaml", *last], phantom, tmp_path)
    columns = columns_of(tmp_path)
    assert own <= columns
    assert ("self_training" in columns) == (not last)
    assert (tmp_path / "selection.csv").is_file() == (not last)
    fingerprint = read_json(tmp_path / "fingerprint.json")
    assert (fingerprint["pamr_iterations"] > 0) == (not last)
    generators = {path.stem for path in (tmp_path / "generators").glob("*.pt")}
    assert generators == ({"target_generator", "source_generator"} if method == "cyclegan" else set())


@pytest.mark.parametrize("method", ["adda", "pnp_adanet", "cycada"])
def test_a_second_stage_starts_from_a_run_and_keeps_what_it_freezes(
    method: str, phantom: Path, source_stage: Path, translation_stage: Path, tmp_path: Path
) -> None:
    first = translation_stage if method == "cycada" else source_stage
    options = (
        {"critic_steps": 1}
        if method == "pnp_adanet"
        else {"gate": "{'_target_': 'sifa.adaptation.AccuracyGate', 'threshold': None}"}
    )
    train([*PLAIN, f"{method}.yaml"], phantom, tmp_path, initial_weights=first, **options)
    before, after = weights_of(first), weights_of(tmp_path)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    stays = {
        "adda": ("pixel_classifier.",),
        "pnp_adanet": ("pixel_classifier.", *(f"encoder.layers.{number}." for number in range(14, 20))),
        "cycada": (),
    }[method]
    assert changed
    assert not [name for name in changed if name.startswith(stays)] or not stays
    assert ("gate_open" in columns_of(tmp_path)) == (method != "pnp_adanet")


@pytest.mark.parametrize("method", ["adda", "cycada"])
def test_a_second_stage_takes_our_additions(
    method: str, phantom: Path, source_stage: Path, translation_stage: Path, tmp_path: Path
) -> None:
    first = translation_stage if method == "cycada" else source_stage
    train([*RECOMMENDED, f"{method}.yaml"], phantom, tmp_path, initial_weights=first)
    assert {"self_training", "discriminator_accuracy"} <= columns_of(tmp_path)
    assert (tmp_path / "selection.csv").is_file()


@pytest.mark.parametrize("method", ["pnp_adanet", "cycada"])
def test_a_resumed_second_stage_ends_with_the_weights_of_an_uninterrupted_one(
    method: str, phantom: Path, source_stage: Path, translation_stage: Path, tmp_path: Path
) -> None:
    first = translation_stage if method == "cycada" else source_stage
    options: dict[str, Any] = {"initial_weights": first, "resume": "auto", "iterations_per_epoch": 2}
    if method == "pnp_adanet":
        options["critic_steps"] = 3  # the adapted layers move once, after the interruption
    configs = [*PLAIN, f"{method}.yaml"]
    train(configs, phantom, tmp_path / "straight", **options)
    train(configs, phantom, tmp_path / "halves", **{**options, "epochs": 1})
    train(configs, phantom, tmp_path / "halves", **options)
    straight, halves = weights_of(tmp_path / "straight"), weights_of(tmp_path / "halves")
    assert all(torch.equal(straight[name], halves[name]) for name in straight)
    tables = [(tmp_path / name / "scalars.csv").read_text(encoding="utf-8") for name in ("straight", "halves")]
    assert tables[0] == tables[1]
    assert (tmp_path / "halves" / NAME).is_file()


def test_a_second_stage_is_refused_before_training_without_a_fitting_first_one(
    phantom: Path, source_stage: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    adda, cycada = [*PLAIN, "adda.yaml"], [*PLAIN, "cycada.yaml"]
    assert "initial_weights is null" in error_of(adda, phantom, output)
    assert "target_generator.pt" in error_of(cycada, phantom, output, initial_weights=source_stage)
    assert "another network" in error_of(adda, phantom, output, initial_weights=source_stage, width=0.125)
    assert "another slice size" in error_of(adda, phantom, output, initial_weights=source_stage, slice_size="[40,32]")
    missing = error_of(adda, phantom, output, initial_weights=tmp_path)
    assert f"{tmp_path / 'fingerprint.json'}: there is no such file" in missing


@pytest.mark.parametrize("method", [[], ["dann.yaml"]], ids=["sifa", "dann"])
def test_labeled_target_scans_join_the_loss_of_the_segmenter(method: list[str], phantom: Path, tmp_path: Path) -> None:
    content = read_json(phantom / "dataset.json")
    image = content["target"]["training"][0]["image"]
    content["target"]["labeled"] = [{"image": image, "label": image.replace("ct_images", "ct_training_labels")}]
    data = tmp_path / "data"
    shutil.copytree(phantom, data)
    (data / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    train([*RECOMMENDED, *method, "labeled_target.yaml"], data, tmp_path / "run")
    assert "target_segmentation" in columns_of(tmp_path / "run")

    empty = error_of([*RECOMMENDED, "labeled_target.yaml"], phantom, tmp_path / "none")
    assert "target.labeled is empty" in empty
    last = error_of([*PLAIN, "source_only.yaml", "labeled_target.yaml"], data, tmp_path / "none")
    assert "cannot be combined" in last


def test_a_trained_network_adapts_to_target_images_alone(phantom: Path, source_stage: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom, data, ignore=shutil.ignore_patterns("mr_*", "*.json"))
    content = read_json(phantom / "dataset.json")
    content.pop("source")
    (data / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    configs, run = [*RECOMMENDED, "source_free.yaml"], tmp_path / "run"
    train(configs, data, run, initial_weights=source_stage, width=1.0)  # the network is as large as the trained one
    assert read_json(run / "fingerprint.json") == read_json(source_stage / "fingerprint.json")
    assert {"self_training", "segmenter_loss"} <= columns_of(run)
    before, after = weights_of(source_stage), weights_of(run)
    assert any(not torch.equal(before[name], after[name]) for name in before)

    assert "initial_weights is null" in error_of(configs, data, tmp_path / "none")
    swapped = {**content["labels"], "1": content["labels"]["2"], "2": content["labels"]["1"]}
    (data / "dataset.json").write_text(json.dumps({**content, "labels": swapped}), encoding="utf-8")
    assert "its labels are" in error_of(configs, data, tmp_path / "none", initial_weights=source_stage)
    assert "needs recommended.yaml" in error_of([*PLAIN, "source_free.yaml"], data, tmp_path / "none")


def test_two_methods_at_once_are_refused(phantom: Path, tmp_path: Path) -> None:
    error = error_of([*PLAIN, "dann.yaml", "cyclegan.yaml"], phantom, tmp_path)
    assert "cannot be combined" in error
    assert "cyclegan" not in error.rpartition("write")[2]
    assert "cannot be combined" in error_of([*PLAIN, "image_adaptation.yaml", "dann.yaml"], phantom, tmp_path)
