"""Predicted Dice: bounds, monotony, splits by scan, and calibrations of other models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sifa.quality_control.calibrate import require_scans
from sifa.quality_control.calibration import Calibration, read_calibration, write_calibration
from sifa.quality_control.imitation import degrade
from sifa.quality_control.monotone_fit import fit, predict
from sifa.quality_control.signals import agreement, soft_dice, volume_plausibility
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file

RNG = np.random.default_rng(0)
SCORES = RNG.uniform(0.1, 1, 300)
DICE = np.clip(SCORES + RNG.normal(0, 0.05, 300), 0, 1)
FIT = fit(SCORES, DICE, np.arange(300) // 10)


def test_a_prediction_lies_in_its_interval_from_0_to_1_and_never_falls_with_the_score() -> None:
    found = [predict(FIT, score) for score in np.linspace(0, 1, 50)]
    assert all(0 <= low <= dice <= high <= 1 for dice, low, high in found)
    assert (np.diff([dice for dice, _, _ in found]) >= 0).all()


def test_perfect_masks_are_above_nine_tenths_and_empty_ones_are_flagged() -> None:
    assert predict(FIT, 1.0)[0] > 0.9
    assert predict(FIT, 0.0)[0] == 0 < FIT.threshold


def test_the_same_seed_gives_the_same_fit_and_the_same_images() -> None:
    assert fit(SCORES, DICE, np.arange(300) // 10) == FIT
    slices = torch.rand(4, 1, 16, 16) * 2 - 1
    assert torch.equal(degrade(slices, 3), degrade(slices, 3))
    assert not torch.equal(degrade(slices, 3), degrade(slices, 4))


def test_signals_are_their_formulas() -> None:
    assert soft_dice(8, 10, 12) == pytest.approx(16 / 22)
    assert soft_dice(0, 0, 3) == 0
    one, other = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    assert agreement(one, other, 3).tolist() == pytest.approx([1, 2 / 3, 2 / 3])
    assert volume_plausibility(20, 10, 40) == 1
    assert volume_plausibility(200, 10, 40) < 0.1


def test_a_calibration_is_read_back_and_refused_for_another_model(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"one")
    made = Calibration(hash_of_file(tmp_path / "model.pt"), 8, 96, ["appearance"], {"fast": {"liver": FIT}})
    write_calibration(made, tmp_path)
    assert read_calibration(tmp_path) == made
    (tmp_path / "model.pt").write_bytes(b"other")
    with pytest.raises(InputError, match="belongs to another model"):
        read_calibration(tmp_path)


def test_fewer_than_eight_held_out_scans_are_refused() -> None:
    with pytest.raises(InputError, match=r"source.validation lists 7 scans"):
        require_scans([{}] * 7, "dataset.json")
