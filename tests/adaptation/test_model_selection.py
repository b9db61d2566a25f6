"""How good a segmenter is on the target, told without labels, and the epoch that is kept by it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engines import go, saver
from ignite.engine import Engine, Events
from iterations import build_networks, draw_batch
from sifa.adaptation.model_selection import LabelFreeScore
from sifa.adaptation.target_statistics import TargetStatistics
from sifa.data.slice_cache import VolumeSlices
from sifa.networks.weights import load_weights
from sifa.reports.scalar_table import read_columns
from sifa.transforms.random_appearance import RandAppearanced
from torch import nn

CLASSES = 3


class Halves(nn.Module):
    """Finds class 1 on the left and class 2 on the right, in the rows above `rows`, whatever the image shows."""

    def __init__(self, rows: int, classes: tuple[int, int] = (1, 2)) -> None:
        super().__init__()
        self.rows, self.classes = rows, classes

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(image), CLASSES, *image.shape[2:])
        logits[:, 0] = 1
        half = image.shape[3] // 2
        logits[:, self.classes[0], : self.rows, :half] = 2
        logits[:, self.classes[1], : self.rows, half:] = 2
        return logits


class Threshold(nn.Module):
    """Finds class 1 where the image is bright: it hangs on the contrast."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), image, torch.full_like(image, -9)], dim=1)


def target_slices(count: int = 6) -> VolumeSlices:
    generator = torch.Generator().manual_seed(0)
    return VolumeSlices([{"image": torch.rand(count, 1, 8, 8, generator=generator) * 2 - 1}])


def score_of(segmenter: nn.Module, frequencies: tuple[float, ...] = (0.5, 0.25, 0.25)) -> dict[str, float]:
    statistics = TargetStatistics(target_slices(), batch_size=4)
    return LabelFreeScore(statistics, torch.tensor(frequencies))(segmenter)


def test_what_looks_the_same_under_any_appearance_and_has_the_expected_size_scores_one() -> None:
    assert score_of(Halves(4)) == {"score": 1.0, "agreement": 1.0, "plausibility": 1.0}


@pytest.mark.parametrize(("rows", "plausibility"), [(8, 0.5), (2, 0.5), (1, 0.25)])
def test_too_much_counts_like_too_little(rows: int, plausibility: float) -> None:
    scores = score_of(Halves(rows))

    assert scores["plausibility"] == pytest.approx(plausibility, abs=1e-6)
    assert scores["score"] == pytest.approx(plausibility, abs=1e-6)


def test_a_structure_that_is_not_found_counts_as_zero() -> None:
    scores = score_of(Halves(4, classes=(1, 1)))  # class 1 twice as large as expected, class 2 gone

    assert scores["score"] == pytest.approx((0.5 + 0) / 2, abs=1e-6)


def test_what_hangs_on_contrast_agrees_less_with_itself_by_its_dice() -> None:
    scores = score_of(Threshold(), (0.5, 0.5, 1e-6))

    appearance: Any = RandAppearanced("image").set_random_state(seed=0)
    images = [target_slices()[index]["image"] for index in range(6)]
    views = [appearance({"image": image})["image"] for image in images]
    one, other = (np.stack([(image > 0).numpy() for image in group]) for group in (images, views))
    dice = 2 * (one & other).sum() / (one.sum() + other.sum())
    assert scores["agreement"] == pytest.approx(dice / 2)
    assert 0 < dice < 1


def test_a_class_that_neither_the_source_nor_the_network_knows_leaves_the_score_finite() -> None:
    segmenter = build_networks().segmenter
    bias = segmenter.pixel_classifier.classifier.bias
    assert bias is not None
    with torch.no_grad():
        bias.add_(torch.tensor([0, 0, -100.0]))
    statistics = TargetStatistics(VolumeSlices([{"image": draw_batch(0)["target_image"]}]))

    scores = LabelFreeScore(statistics, torch.tensor([0.8, 0.2, 0.0]))(segmenter)

    assert all(math.isfinite(value) for value in scores.values())


def test_scoring_repeats_itself_and_changes_nothing() -> None:
    segmenter = nn.Sequential(nn.Conv2d(1, CLASSES, 3, padding=1), nn.BatchNorm2d(CLASSES)).train()
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    score = LabelFreeScore(TargetStatistics(target_slices()), torch.tensor([0.4, 0.3, 0.3]))
    state = torch.get_rng_state()

    assert score(segmenter) == score(segmenter)

    assert segmenter.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in segmenter.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


# --- the epoch that is kept ---


class Scripted:
    """A score that takes these values, one an epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = iter(values)

    def __call__(self, segmenter: nn.Module) -> dict[str, float]:
        value = next(self.values)
        return {"score": value, "agreement": value, "plausibility": value}


def train(
    folder: Path, scores: list[float], done: int = 0, epochs: int | None = None, keep_epochs: bool = False
) -> None:
    """Runs two iterations an epoch; the weight is the iteration's number."""
    network = nn.Linear(1, 1)

    def step(engine: Engine, batch: Any) -> dict[str, torch.Tensor]:
        nn.init.constant_(network.weight, engine.state.iteration)
        return {"loss": torch.tensor(1.0)}

    score: Any = Scripted(scores)
    go(
        [saver(network, folder, score=score, keep_epochs=keep_epochs)],
        step,
        epochs=epochs or len(scores),
        iterations=2,
        done=done,
    )


def weight_in(folder: Path) -> float:
    return float(load_weights(nn.Linear(1, 1), folder / "model.pt").state_dict()["weight"])


@pytest.mark.parametrize(
    ("scores", "kept"), [([0.1, 0.3, 0.2], 4), ([0.1, 0.2, 0.3], 6), ([0.3, 0.2, 0.3], 6), ([0.0, 0.0], 4), ([0.5], 2)]
)
def test_the_epoch_with_the_highest_score_is_kept_of_equal_ones_the_last(
    scores: list[float], kept: float, tmp_path: Path
) -> None:
    train(tmp_path, scores)

    assert weight_in(tmp_path) == kept
    assert weight_in(tmp_path / "last") == 2 * len(scores)
    assert read_columns(tmp_path / "selection.csv")["score"].tolist() == scores


def test_all_epochs_stay_when_asked(tmp_path: Path) -> None:
    train(tmp_path, [0.2, 0.1], keep_epochs=True)

    assert [weight_in(folder) for folder in sorted((tmp_path / "epochs").iterdir())] == [2, 4]


def test_a_training_that_goes_on_compares_with_the_scores_of_before(tmp_path: Path) -> None:
    train(tmp_path, [0.1, 0.4, 0.2], epochs=3)

    train(tmp_path, [0.3, 0.35], done=4, epochs=4)  # goes on behind epoch 2: the third is run again

    assert weight_in(tmp_path) == 4
    assert weight_in(tmp_path / "last") == 8
    assert read_columns(tmp_path / "selection.csv")["score"].tolist() == [0.1, 0.4, 0.3, 0.35]


def test_the_table_is_there_before_the_first_epoch_ends(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    saver(nn.Linear(1, 1), tmp_path, score=Scripted([0.5])).attach(engine)
    found: list[str] = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: found.append((tmp_path / "selection.csv").read_text(encoding="utf-8"))
    )

    engine.run(range(1))

    assert found == ["epoch,iteration,score,agreement,plausibility\n"]
