"""Scans of mixed quality, and the figures by which predicted Dice is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_trust import Mask, area_under_risk_coverage, as_table, caught_at, copy_scans, order_of, summarize
from builders import write_dataset, write_description, write_nifti
from mixed_quality import DAMAGES, damage
from sifa.io.nifti_files import load_nifti
from sifa.transforms.label_values import map_labels
from sifa.utils.errors import InputError


def test_every_damage_changes_a_scan_and_keeps_image_and_labels_together() -> None:
    generator = np.random.default_rng(0)
    volume = generator.normal(100, 50, (24, 20, 16)).astype(np.float32)
    labels = (volume > 100).astype(np.uint8)
    seen = set()
    for seed in range(60):
        changed, kept, name = damage(volume, labels, np.random.default_rng(seed))
        seen.add(name)
        assert changed.shape == kept.shape
        if name != "cut off":
            assert np.array_equal(kept, labels)
        assert (name == "none") == (changed.shape == volume.shape and np.array_equal(changed, volume))
    assert seen == {"none", *DAMAGES}


def test_a_scan_that_is_cut_off_keeps_the_labels_of_what_is_left() -> None:
    volume = np.arange(24 * 20 * 16, dtype=np.float32).reshape(24, 20, 16)
    labels = (volume.astype(int) % 251).astype(np.uint8)
    for seed in range(60):
        changed, kept, name = damage(volume, labels, np.random.default_rng(seed))
        if name == "cut off":
            assert changed.size < volume.size
            assert np.array_equal(changed.astype(int) % 251, kept)
            return
    pytest.fail("no seed cuts a scan off")


def test_the_area_under_risk_and_coverage_is_the_mean_risk_of_the_most_trusted() -> None:
    dice = np.array([0.9, 0.5, 0.1])
    assert area_under_risk_coverage(dice, dice) == pytest.approx(np.mean([0.1, (0.1 + 0.5) / 2, (0.1 + 0.5 + 0.9) / 3]))
    assert area_under_risk_coverage(-dice, dice) > area_under_risk_coverage(dice, dice)


def test_the_worst_tenth_is_caught_by_a_prediction_that_orders_masks_and_not_by_its_reverse() -> None:
    dice = np.linspace(0, 1, 100)
    assert caught_at(dice, dice) == 1
    assert caught_at(1 - dice, dice) == 0


def test_masks_that_are_all_equally_good_have_no_order_and_equal_predictions_have_none_right() -> None:
    dice, same = np.linspace(0, 1, 10), np.full(10, 0.3)
    assert order_of(dice, dice) == pytest.approx(1)
    assert order_of(same, dice) == 0
    assert np.isnan(order_of(dice, same))
    assert np.isnan(caught_at(dice, same))


def test_a_row_of_the_table_holds_bias_coverage_and_the_error_of_the_median() -> None:
    dice = np.linspace(0.1, 0.9, 40)
    masks = [
        Mask(
            f"scan {number}",
            "none",
            "liver",
            float(true),
            float(true) + 0.05,
            float(true) - 0.1,
            float(true) + 0.2,
            0.5,
        )
        for number, true in enumerate(dice)
    ]
    found = summarize(masks)
    assert found["bias"] == found["mae"] == pytest.approx(0.05)
    assert found["covered"] == 1
    assert found["poor_seen"] == pytest.approx(np.mean(dice[dice < 0.5] + 0.05 < 0.5))
    assert found["width"] == pytest.approx(0.3)
    assert found["spearman"] == pytest.approx(1)
    assert found["mae_of_median"] == pytest.approx(np.abs(dice - np.median(dice)).mean())
    assert "| model | true Dice |" in as_table({"a": found})
    assert "| a | 0.500 | 1.000 | 0.050 |" in as_table({"a": found})


def test_labeled_scans_of_a_data_set_are_copied_with_classes_in_their_labels(tmp_path: Path) -> None:
    content = write_dataset(tmp_path)
    values = {0: 0, 1: 205, 2: 420}
    for path in (tmp_path / "labels").iterdir():
        label = load_nifti(path)
        write_nifti(path, map_labels(np.asarray(label.dataobj).astype(int), values), label.affine)
    content["label_map"] = {str(value): index for index, value in values.items()}
    write_description(tmp_path, content)
    copies = tmp_path / "copies"
    copies.mkdir()
    names = [Path(item["image"]).name for item in content["target"]["test"]]
    assert copy_scans(copies, str(tmp_path)) == dict.fromkeys(names, "none")
    label = load_nifti(copies / "labels" / names[0])
    assert set(np.unique(np.asarray(label.dataobj))) <= {0, 1, 2}
    assert (copies / "images" / names[0]).is_file()


def test_a_data_set_without_labeled_target_scans_is_refused(tmp_path: Path) -> None:
    content = write_dataset(tmp_path)
    content["target"] = {**content["target"], "test": [], "validation": []}
    write_description(tmp_path, content)
    with pytest.raises(InputError, match=r"neither target\.test nor target\.validation lists labeled scans"):
        copy_scans(tmp_path, str(tmp_path))
