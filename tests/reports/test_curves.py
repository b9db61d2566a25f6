"""Curves of scalars: their groups, what is drawn of them, and the file that it becomes."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from sifa.reports.curves import Array, draw_curve, moving_mean, to_svg
from sifa.reports.scalar_groups import group_scalars


def test_scalars_are_shown_in_groups_and_new_ones_are_not_lost() -> None:
    names = [
        "epoch",
        "iteration",
        "loss",
        "surprise",
        "segmenter_learning_rate",
        "segmenter_loss",
        "target_cycle",
        "prediction_adversarial_weight",
        "segmenter_self_training_weight",
    ]
    assert {group.heading: members for group, members in group_scalars(names).items()} == {
        "Losses of generators and segmenter": ["segmenter_loss"],
        "Terms of the losses, unweighted": ["target_cycle"],
        "Loss weights that follow a schedule": ["prediction_adversarial_weight", "segmenter_self_training_weight"],
        "Learning rates": ["segmenter_learning_rate"],
        "Other scalars": ["surprise"],
    }


def lines(values: Array) -> tuple[Array, Array]:
    """Returns the points (points, 2) of the recorded values and of their mean."""
    figure = draw_curve(np.arange(1.0, len(values) + 1), values)
    assert figure is not None
    recorded, mean = (np.asarray(line.get_xydata()) for line in figure.axes[0].lines)
    return recorded, mean


def svg(values: Array) -> str:
    """Returns the file of a curve."""
    figure = draw_curve(np.arange(1.0, len(values) + 1), values)
    assert figure is not None
    return to_svg(figure).decode()


def test_a_curve_goes_through_what_was_recorded() -> None:
    recorded, _ = lines(np.array([1.0, 3.0, 2.0]))
    assert recorded[:, 0].tolist() == [1, 2, 3]
    assert recorded[:, 1] == pytest.approx([1.0, 3.0, 2.0], abs=0.02)  # the extremes count as outliers


def test_a_long_curve_is_thinned_out() -> None:
    recorded, mean = lines(np.random.default_rng(0).random(24000))
    assert 400 < len(recorded) == len(mean) <= 800


@pytest.mark.parametrize("values", [[2.0], [0.0, 0.0], [1.0, math.nan, math.inf, 2.0]])
def test_short_constant_and_broken_curves_can_be_drawn(values: list[float]) -> None:
    for points in lines(np.array(values)):
        assert len(points) == np.isfinite(values).sum()
        assert np.isfinite(points).all()
    assert "nan" not in svg(np.array(values)).lower()


def test_a_curve_without_any_finite_value_is_not_drawn() -> None:
    assert draw_curve(np.arange(1.0, 3.0), np.array([math.nan, math.inf])) is None


def test_an_outlier_does_not_flatten_a_curve() -> None:
    values = np.random.default_rng(0).random(1000)
    values[500] = 1e9
    figure = draw_curve(np.arange(1.0, 1001.0), values)
    assert figure is not None
    low, high = figure.axes[0].get_ylim()
    assert high - low < 1.2
    assert np.asarray(figure.axes[0].lines[0].get_ydata()).max() == high


def test_the_file_of_a_curve_holds_its_numbers_as_text_and_is_the_same_each_time() -> None:
    values = np.linspace(0, 1, 2000) ** 2
    first = svg(values)
    assert svg(values) == first
    texts = re.findall(r"<text [^>]*>(.*?)</text>", first)
    assert {"500", "1000", "1500", "2000", "0.3", "0.6"} <= set(texts)
    assert not re.search(r"<image|<script|@import|<a |<metadata|href=\"(?!#)", first)


def test_the_moving_mean_of_a_constant_is_that_constant_and_skips_what_is_missing() -> None:
    values = np.full(500, 3.0)
    values[100] = math.nan
    assert np.allclose(moving_mean(values), 3.0)
