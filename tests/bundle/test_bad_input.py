"""Bad input through the real command line: one clear sentence, before any long work; one bad scan stops no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from builders import read_json
from conftest import RECOMMENDED, TINY, run_bundle


def sentence(stderr: str) -> str:
    """Returns the one line that begins with `error:`; anything like a traceback fails."""
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, stderr
    return lines[0]


def drop_target(data: dict[str, Any]) -> None:
    data["target"]["training"] = []


def label_target(data: dict[str, Any]) -> None:
    data["target"]["training"][0]["label"] = data["source"]["training"][0]["label"]


def repeat_subject(data: dict[str, Any]) -> None:
    data["target"]["validation"][0]["image"] = data["target"]["training"][0]["image"]


def lose_image(data: dict[str, Any]) -> None:
    data["source"]["training"][0]["image"] = "mr_images/none.nii.gz"


def swap_labels(data: dict[str, Any]) -> None:
    items = data["source"]["training"]
    items[0]["label"], items[1]["label"] = items[1]["label"], items[0]["label"]


def forget_a_structure(data: dict[str, Any]) -> None:
    del data["labels"]["4"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop_target, "target.training is empty"),
        (label_target, "has a 'label'"),
        (repeat_subject, "a subject belongs in one list"),
        (lose_image, "none.nii.gz does not exist"),
        (swap_labels, "its shape"),
        (forget_a_structure, "holds the value 4"),
    ],
)
def test_a_wrong_data_set_is_refused_with_one_sentence(
    spoil: Callable[[dict[str, Any]], None], words: str, phantom: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(phantom, folder)
    data = read_json(folder / "dataset.json")
    spoil(data)
    (folder / "dataset.json").write_text(json.dumps(data), encoding="utf-8")
    result = run_bundle("training", RECOMMENDED, check=False, dataset_dir=folder, output_dir=tmp_path / "o", **TINY)
    assert result.returncode == 1
    assert words in sentence(result.stderr)
    assert not (tmp_path / "o" / "model.pt").exists()


@pytest.mark.parametrize(
    ("run_id", "configs", "option", "value", "status"),
    [
        ("training", ["train.yaml", "recommended.yaml"], "guided_translation", "false", 2),
        ("training", ["train.yaml", "multi_gpu_train.yaml"], "spatial_prior", "no", 2),
        ("inference", ["inference.yaml"], "overwrite", "false", 2),
        ("inference", ["inference.yaml"], "precision", "bf16", 1),
        ("inference", ["inference.yaml"], "largest_component", "[2, 5]", 2),
        ("inference", ["inference.yaml"], "largest_component", "['spleen']", 2),
        ("inference", ["inference.yaml"], "naming", "bids", 2),
        ("inference", ["inference.yaml"], "tta", "diagonal", 2),
        ("inference", ["inference.yaml"], "probabilities", "yes", 2),
    ],
)
def test_a_value_that_an_option_does_not_know_is_refused(
    run_id: str, configs: list[str], option: str, value: str, status: int, phantom: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"dataset_dir": phantom, "output_dir": tmp_path / "o", option: value}
    result = run_bundle(run_id, configs, check=False, **options)
    assert result.returncode == status
    assert f"--{option} {value}" in sentence(result.stderr)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("content", [None, "{not json", "[]"])
def test_a_missing_or_malformed_dataset_json_is_named(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "dataset.json").write_text(content, encoding="utf-8")
    result = run_bundle("training", ["train.yaml"], check=False, dataset_dir=tmp_path, output_dir=tmp_path / "o")
    assert result.returncode == 1
    assert str(tmp_path / "dataset.json") in sentence(result.stderr)


def test_a_scan_that_cannot_be_read_is_reported_and_the_others_are_done(
    phantom: Path, trained: Path, tmp_path: Path
) -> None:
    scans, output = tmp_path / "scans", tmp_path / "masks"
    (scans / "deeper").mkdir(parents=True)
    shutil.copy(phantom / "ct_images" / "ct_test_000.nii.gz", scans / "a.nii.gz")
    (scans / "b_truncated.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes()[:2000])
    (scans / "c_text.nii.gz").write_text("no image", encoding="utf-8")
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8, 3), np.int16), np.eye(4)), scans / "d_four.nii.gz")
    shutil.copy(phantom / "ct_images" / "ct_test_001.nii.gz", scans / "deeper" / "e.nii.gz")
    result = run_bundle(
        "inference", ["inference.yaml"], check=False, model_dir=trained, dataset_dir=scans, output_dir=output
    )
    assert result.returncode == 1
    assert "3 of 5 scans failed" in sentence(result.stderr)
    for name in ("b_truncated", "c_text", "d_four"):
        assert name in result.stderr
    written = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    assert written == [".sifa.lock", "a_seg.nii.gz", "deeper/e_seg.nii.gz", "manifest.json", "volumes.csv"]
    cases = {case["input"]: case for case in read_json(output / "manifest.json")["cases"]}
    assert cases["d_four.nii.gz"]["status"] == "failed"
    assert "convert or split it" in cases["d_four.nii.gz"]["message"]


@pytest.mark.parametrize("make", [True, False])
def test_a_missing_or_empty_folder_of_scans_is_refused(make: bool, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    if make:
        folder.mkdir()
    result = run_bundle(
        "inference", ["inference.yaml"], check=False, model_dir=trained, dataset_dir=folder, output_dir=tmp_path
    )
    assert result.returncode == 1
    assert str(folder) in sentence(result.stderr)


def test_missing_and_foreign_weights_are_refused(phantom: Path, trained: Path, tmp_path: Path) -> None:
    scan = phantom / "ct_images" / "ct_test_000.nii.gz"
    empty, mixed = tmp_path / "empty", tmp_path / "mixed"
    empty.mkdir()
    shutil.copytree(trained, mixed)
    fingerprint = read_json(mixed / "fingerprint.json")
    fingerprint["network"]["width"] = 0.125
    (mixed / "fingerprint.json").write_text(json.dumps(fingerprint), encoding="utf-8")
    for folder, words in ((empty, "there is no fingerprint"), (mixed, "weights do not fit")):
        result = run_bundle(
            "inference", ["inference.yaml"], check=False, model_dir=folder, dataset_dir=scan, output_dir=tmp_path
        )
        assert result.returncode == 1
        assert words in sentence(result.stderr)
