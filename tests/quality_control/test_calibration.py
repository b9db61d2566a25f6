"""Predicted Dice: bounds, monotony, splits by scan, and calibrations of other models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import read_json
from scipy.stats import spearmanr
from sifa.quality_control.calibration import NAME, Calibration, read_calibration, write_calibration
from sifa.quality_control.monotone_fit import MonotoneFit, conformal_quantile, fit, needed_signals, predict
from sifa.quality_control.resemblance import LatentRange, Resemblance
from sifa.quality_control.signal_meter import SIGNALS
from sifa.quality_control.signals import (
    agreement,
    count_along_axes,
    count_overlap,
    position_plausibility,
    shape_plausibility,
    soft_dice,
    volume_plausibility,
)
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file

RNG = np.random.default_rng(0)
SCANS = np.arange(300) // 10
DICE = RNG.uniform(0, 1, 300)
TRUE, NOISE = np.clip(DICE + RNG.normal(0, 0.05, 300), 0, 1), RNG.uniform(0, 1, 300)
ROWS = [{"soft_dice": float(true), "noise": float(noise)} for true, noise in zip(TRUE, NOISE, strict=True)]
FIT = fit(ROWS, DICE, SCANS)
LATENTS = LatentRange([0.0, 1.0], [1.0, 2.0], 1.5)


def predicted(rows: list[dict[str, float]]) -> np.ndarray:
    return np.array([predict(FIT, row).dice for row in rows])


def test_a_prediction_lies_in_its_interval_from_0_to_1() -> None:
    found = [predict(FIT, {"soft_dice": score, "noise": 0.5}) for score in np.linspace(0, 1, 50)]
    assert all(0 <= low <= dice <= high <= 1 for dice, low, high in found)


@pytest.mark.parametrize("signal", ["soft_dice", "noise"])
def test_a_prediction_never_falls_with_a_signal(signal: str) -> None:
    other = {"soft_dice": 0.4, "noise": 0.4}
    found = predicted([{**other, signal: value} for value in np.linspace(0, 1, 50)])
    assert (np.diff(found) >= 0).all()


def test_a_signal_that_tells_nothing_gets_little_weight() -> None:
    assert FIT.weights["soft_dice"] > 0.9
    assert FIT.weights["noise"] < 0.05


def test_a_signal_that_falls_with_dice_is_not_needed() -> None:
    rows = [{**row, "worse": 1 - row["soft_dice"]} for row in ROWS]
    assert "worse" not in needed_signals(fit(rows, DICE, SCANS))


def test_perfect_masks_are_above_nine_tenths() -> None:
    assert predict(FIT, {"soft_dice": 1.0, "noise": 1.0}).dice > 0.9


def test_signals_that_tell_nothing_give_the_mean_dice_and_a_wide_interval() -> None:
    rows = [{"falls": float(1 - dice)} for dice in DICE]
    found = fit(rows, DICE, SCANS)
    assert needed_signals(found) == ()
    dice, low, high = predict(found, {"falls": 0.0})
    assert dice == pytest.approx(DICE.mean())
    assert high - low > 0.8


def test_intervals_cover_nine_tenths_of_other_scans() -> None:
    rng = np.random.default_rng(1)
    dice = rng.uniform(0, 1, 1000)
    found = [
        predict(FIT, {"soft_dice": float(score), "noise": 0.5})
        for score in np.clip(dice + rng.normal(0, 0.05, 1000), 0, 1)
    ]
    covered = np.mean([low <= true <= high for true, (_, low, high) in zip(dice, found, strict=True)])
    assert 0.85 < covered < 0.96
    assert np.mean([one.high - one.low for one in found]) < 0.3


def test_the_conformal_quantile_is_its_formula() -> None:
    residuals = np.arange(1, 20) / 20
    assert conformal_quantile(residuals, np.ones(19), 0.9) == 18 / 20  # ceil(20 * 0.9)
    assert conformal_quantile(residuals[:8], np.ones(8), 0.9) == 1  # ceil(9 * 0.9) is more than 8
    twice = np.where(residuals > 0.5, 2.0, 1.0)
    repeated = np.concatenate([residuals, residuals[residuals > 0.5]])
    assert conformal_quantile(residuals, twice, 0.5) == conformal_quantile(repeated, np.ones(len(repeated)), 0.5)
    assert conformal_quantile(residuals, np.zeros(19), 0.9) == 1


def test_intervals_are_those_of_the_scans_that_weigh_most() -> None:
    noise = np.where(SCANS < 15, 0.02, 0.2) * RNG.standard_normal(300)
    rows = [{"soft_dice": float(value)} for value in np.clip(DICE + noise, 0, 1)]
    exact, rough = (fit(rows, DICE, SCANS, np.where(of, 1.0, 0.01)) for of in (SCANS < 15, SCANS >= 15))
    assert max(exact.widths) < 0.5 * min(rough.widths)
    assert all(cautious >= width for cautious, width in zip(exact.cautious_widths, exact.widths, strict=True))


def test_an_interval_is_wider_where_calibration_does_not_resemble_the_scan() -> None:
    signals = {"soft_dice": 0.5, "noise": 0.5}
    usual, cautious = predict(FIT, signals), predict(FIT, signals, cautiously=True)
    assert usual.dice == cautious.dice
    assert cautious.low < usual.low < usual.high < cautious.high


def test_a_tenth_of_good_masks_is_flagged() -> None:
    good = predicted(ROWS)[DICE >= 0.7]
    assert 0.05 < np.mean(good < FIT.threshold) < 0.15


def test_the_folds_keep_the_masks_of_a_scan_together() -> None:
    rng = np.random.default_rng(2)
    scan_effect = rng.uniform(0, 1, 30)
    rows = [{"soft_dice": 0.5, **{f"scan_{number}": float(number == scan) for number in range(30)}} for scan in SCANS]
    found = fit(rows, scan_effect[SCANS], SCANS)
    assert min(found.widths) > 0.2  # a fit that has seen the scan would know its Dice exactly


def test_the_same_seed_gives_the_same_fit() -> None:
    assert fit(ROWS, DICE, SCANS) == FIT
    assert spearmanr(predicted(ROWS), DICE).statistic > 0.95


def test_signals_are_their_formulas() -> None:
    assert soft_dice(8, 10, 12) == pytest.approx(16 / 22)
    assert soft_dice(0, 0, 3) == 0
    one, other = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    assert agreement(one, other, 3).tolist() == pytest.approx([1, 2 / 3, 2 / 3])
    assert volume_plausibility(20, 10, 40) == 1
    assert volume_plausibility(200, 10, 40) < 0.1


def test_counts_are_those_of_the_whole_masks() -> None:
    one, other = np.random.default_rng(0).integers(0, 3, (2, 5, 6, 7)).astype(np.uint8)
    expected = [np.bincount(labels.ravel(), minlength=4) for labels in (one, other, one[one == other])]
    assert np.array_equal(count_overlap(one, other, 4), expected)
    counts = count_along_axes(one, 4)
    assert [len(each) for each in counts] == [5, 6, 7]
    assert all(np.array_equal(each.sum(axis=0), expected[0]) for each in counts)


def test_few_masks_have_one_interval() -> None:
    rows, dice = ROWS[:40], DICE[:40]
    found = fit(rows, dice, SCANS[:40] + np.arange(40) % 2)
    assert len(set(found.widths)) == 1
    assert found.widths[0] < 0.5


def test_a_structure_that_lies_elsewhere_than_in_training_is_less_plausible() -> None:
    priors = {
        str(value): {"center": center, "radius_mm": 10.0}
        for value, center in {1: [-20.0, 0, 0], 2: [20.0, 0, 0], 3: [0, 0, 0]}.items()
    }
    affine = np.diag([-2.0, 2, 2, 1])  # stored from right to left

    def plausible(labels: np.ndarray, priors: dict[str, Any]) -> dict[int, float]:
        return position_plausibility(count_along_axes(labels, 4), affine, priors)

    labels = np.zeros((40, 10, 10), dtype=np.uint8)
    labels[28:31, 4:7, 4:7], labels[8:11, 4:7, 4:7] = 1, 2
    assert plausible(labels, priors) == pytest.approx({1: 1, 2: 1})
    shifted = np.where(labels == 2, 0, labels)
    shifted[13:16, 4:7, 4:7] = 2  # 10 mm away
    assert plausible(shifted, priors) == pytest.approx(dict.fromkeys((1, 2), np.exp(-0.5)))
    assert plausible(np.where(labels == 2, 0, labels), priors) == {1: 0}
    assert plausible(labels, {}) == {}


def test_a_structure_in_pieces_is_less_plausible() -> None:
    labels = np.zeros((12, 6, 6), dtype=np.uint8)
    labels[:2], labels[5:6], labels[8:10] = 1, 1, 2
    priors = {str(value): {"center": [0.0, 0, 0], "radius_mm": 1.0} for value in (1, 2, 3)}
    assert shape_plausibility(labels, np.eye(4), priors) == pytest.approx({1: 2 / 3, 2: 1})
    assert shape_plausibility(labels, np.eye(4), {"2": priors["2"]}) == {2: 1}


def calibration(folder: Path) -> Calibration:
    (folder / "model.pt").write_bytes(b"one")
    rows = [dict.fromkeys(SIGNALS["full"], row["soft_dice"]) for row in ROWS]
    fits: dict[str, MonotoneFit] = {
        name: fit([{signal: row[signal] for signal in signals} for row in rows], DICE, SCANS)
        for name, signals in SIGNALS.items()
    }
    return Calibration(
        hash_of_file(folder / "model.pt"), 8, 96, ["translated"], Resemblance(6, 0.8, 20.0), LATENTS, fits
    )


def test_a_calibration_is_read_back_and_refused_for_another_model(tmp_path: Path) -> None:
    made = calibration(tmp_path)
    write_calibration(made, tmp_path)
    assert read_calibration(tmp_path) == made
    (tmp_path / "model.pt").write_bytes(b"other")
    with pytest.raises(InputError, match="belongs to another model"):
        read_calibration(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["fits"].pop("full"),
        lambda content: content["fits"]["fast"]["weights"].pop("volume"),
        lambda content: content["fits"]["fast"]["dice"].pop(),
        lambda content: content.update(format=99),
        lambda content: content["fits"]["fast"].pop("cautious_widths"),
        lambda content: content["latents"].update(spread=[1.0, 0.0]),
        lambda content: content["resemblance"].update(auroc="high"),
        lambda content: content["resemblance"].update(auroc=7),
        lambda content: content["resemblance"].pop("auroc"),
        lambda content: content["fits"]["fast"].update(cautious_widths=[0.0, 0.0, 0.0]),
        lambda content: content["latents"].update(farthest=-1),
        lambda content: content.update(format=True),
        lambda content: content["fits"]["fast"]["dice"].__setitem__(-1, 7.0),
        lambda content: content["fits"]["fast"]["widths"].__setitem__(0, -0.1),
        lambda content: content["fits"]["fast"]["widths"].pop(),
        lambda content: content["fits"]["fast"]["weights"].update(soft_dice=-1.0),
        lambda content: content["fits"]["fast"]["scores"].reverse(),
    ],
)
def test_a_damaged_calibration_is_refused_by_name(damage: object, tmp_path: Path) -> None:
    path = write_calibration(calibration(tmp_path), tmp_path)
    content = read_json(path)
    damage(content)  # type: ignore[operator]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=NAME):
        read_calibration(tmp_path)
