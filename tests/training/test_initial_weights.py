"""Training that starts from the weights of an earlier run, or reads them without changing them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import refusal
from conftest import BUNDLE, RECOMMENDED, TINY, run_bundle
from sifa.fingerprint.fingerprint import Fingerprint, read_fingerprint
from sifa.networks import Segmenter
from sifa.networks.weights import hash_of
from sifa.training.initial_weights import InitialWeights
from sifa.training.model_files import save_model, save_state

FINGERPRINT = read_fingerprint(BUNDLE / "models" / "fingerprint.json")


def network(seed: int, width: float = 1 / 32) -> Segmenter:
    torch.manual_seed(seed)
    return Segmenter(1, 5, width)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The output folder of an earlier run with its segmenter and one other network."""
    save_model(network(0), FINGERPRINT, tmp_path)
    save_state(network(1), tmp_path / "generators" / "target_generator.pt")
    return tmp_path


def test_a_network_starts_from_the_weights_of_the_run_and_keeps_its_mode(run: Path) -> None:
    start = InitialWeights(run, FINGERPRINT)
    loaded = start.load(network(2).train())
    assert loaded.training
    assert hash_of(loaded) == hash_of(network(0))
    assert hash_of(start.load(network(2), "target_generator")) == hash_of(network(1))


def test_without_a_run_a_network_keeps_its_weights() -> None:
    start = InitialWeights(None, FINGERPRINT)
    assert hash_of(start.load(network(2))) == hash_of(network(2))
    assert start.sha256 == {}


def test_a_frozen_network_is_in_evaluation_mode_and_without_gradients(run: Path) -> None:
    frozen = InitialWeights(run, FINGERPRINT).load_frozen(network(2))
    assert hash_of(frozen) == hash_of(network(0))
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_a_frozen_network_without_a_run_is_refused() -> None:
    message = refusal(lambda: InitialWeights(None, FINGERPRINT).load_frozen(network(0)))
    assert "initial_weights is null" in message


def test_the_hashes_follow_the_files(run: Path) -> None:
    before = InitialWeights(run, FINGERPRINT).sha256
    assert set(before) == {"model", "target_generator"}
    save_state(network(3), run / "model.pt")
    after = InitialWeights(run, FINGERPRINT).sha256
    assert after["model"] != before["model"]
    assert after["target_generator"] == before["target_generator"]


def with_intensity(fingerprint: Fingerprint, domain: str) -> Fingerprint:
    entry = getattr(fingerprint, domain)
    changed = dataclasses.replace(entry, intensity={**entry.intensity, "lower": -17.0})
    return dataclasses.replace(fingerprint, **{domain: changed})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (dataclasses.replace(FINGERPRINT, labels={**FINGERPRINT.labels, 1: "spleen"}), "set of labels"),
        (dataclasses.replace(FINGERPRINT, slice_plane="axial"), "slice plane"),
        (dataclasses.replace(FINGERPRINT, spacing=(9.0, 9.0, 0.0)), "spacing"),
        (dataclasses.replace(FINGERPRINT, slice_size=(8, 8)), "slice size"),
        (
            dataclasses.replace(FINGERPRINT, network=dataclasses.replace(FINGERPRINT.network, width=2.0)),
            "network",
        ),
        (with_intensity(FINGERPRINT, "source"), "intensity rule of the source"),
        (with_intensity(FINGERPRINT, "target"), "intensity rule of the target"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_on_other_images_is_refused_by_what_differs(other: Fingerprint, words: str, run: Path) -> None:
    message = refusal(lambda: InitialWeights(run, other))
    assert str(run / "fingerprint.json") in message
    assert f"another {words}" in message


def test_the_folder_of_the_run_itself_is_refused(run: Path) -> None:
    message = refusal(lambda: InitialWeights(run, FINGERPRINT, output_dir=run / "."))
    assert "are one folder" in message


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(lambda: InitialWeights(tmp_path, FINGERPRINT))


@pytest.mark.slow
def test_a_stage_starts_from_another_run_by_one_option_and_resumes_from_no_other(
    phantom: Path, trained: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {**TINY, "epochs": 1, "iterations_per_epoch": 1, "segmenter_lr": 0, "ema_decay": 0}
    places: dict[str, Any] = {"dataset_dir": phantom, "output_dir": tmp_path / "stage"}
    run_bundle("training", RECOMMENDED, initial_weights=trained, **places, **options)
    weights = torch.load(tmp_path / "stage" / "model.pt", weights_only=True)
    expected = torch.load(trained / "model.pt", weights_only=True)
    learned = [name for name in weights if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(weights[name], expected[name]) for name in learned)

    result = run_bundle("training", RECOMMENDED, check=False, resume="auto", **places, **options)
    assert result.returncode == 1
    assert "initial_weights" in result.stderr
