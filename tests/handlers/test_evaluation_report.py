"""The report of an evaluator: every metric of every volume, as the masks in the files would have it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from builders import Array, diagonal_affine, read_json
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import from_engine
from sifa.handlers import EvaluationReport
from sifa.metrics.results import read_results
from sifa.metrics.structure_metrics import measure_case

AFFINE = diagonal_affine((0.8, 1.5, 3.0))
STRUCTURES = {2: "liver", 1: "aorta"}  # out of order on purpose


def label_map(seed: int) -> Array:
    return np.random.default_rng(seed).choice([0, 0, 1, 2], size=(8, 7, 6)).astype(np.uint8)


def volume(name: str, pred: Array, truth: Array) -> dict[str, MetaTensor]:
    """Returns what an evaluator has of a volume after postprocessing."""
    meta = {"filename_or_obj": f"/ct/{name}", "affine": torch.as_tensor(AFFINE)}
    masks = {"pred": pred, "label": truth.astype(np.float32), "image": np.zeros(pred.shape, np.float32)}
    return {key: MetaTensor(torch.as_tensor(mask)[None], meta=meta) for key, mask in masks.items()}


def evaluate(report: EvaluationReport, volumes: list[dict[str, MetaTensor]], epochs: int = 1) -> None:
    """Runs an engine whose batches hold one volume each."""
    engine = Engine(lambda engine, batch: batch)
    report.attach(engine)
    engine.run([[item] for item in volumes], max_epochs=epochs)


def test_the_json_holds_every_metric_of_every_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = [(label_map(seed), label_map(seed + 10)) for seed in range(3)]
    masks[1][0][masks[1][0] == 2] = 0
    volumes = [volume(f"{number}.nii.gz", *pair) for number, pair in enumerate(masks)]
    report = EvaluationReport(tmp_path, STRUCTURES, from_engine(["pred", "label"]), tolerance_mm=1.6, resamples=50)

    evaluate(report, volumes, epochs=2)  # the second one must not remember the first

    content = read_json(tmp_path / "results.json")
    assert content["volumes"] == ["0.nii.gz", "1.nii.gz", "2.nii.gz"]
    assert content["metrics"]["nsd"]["heading"] == "NSD at 1.6 mm (%)"
    assert content["absent"] == {"liver": {"prediction empty": ["1.nii.gz"]}}
    for number, (pred, truth) in enumerate(masks):
        spacing = nib.affines.voxel_sizes(AFFINE)
        for name, row in measure_case(pred, truth, [1, 2], spacing, 1.6).items():
            structures = content["metrics"][name]["structures"]
            found = [structures[structure]["volumes"][number] for structure in ("aorta", "liver")]
            expected = [None if np.isnan(value) else pytest.approx(value, abs=1e-5) for value in row]
            assert found == expected
    assert "Dice (%)" in capsys.readouterr().out


def test_the_json_names_the_weights_by_their_hash(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    for name, given in (("named", weights), ("unnamed", None)):
        report = EvaluationReport(
            tmp_path / name, STRUCTURES, from_engine(["pred", "label"]), resamples=50, weights=given
        )
        evaluate(report, [volume("a.nii.gz", label_map(0), label_map(1))])

    found = [read_results(tmp_path / name).weights_sha256 for name in ("named", "unnamed")]
    assert found == [hashlib.sha256(b"weights").hexdigest(), None]
    assert "weights_sha256" not in read_json(tmp_path / "unnamed" / "results.json")


def test_millimeters_need_a_prediction_that_knows_its_affine(tmp_path: Path) -> None:
    item: dict[str, Any] = volume("a.nii.gz", label_map(0), label_map(1))
    item["pred"] = item["pred"].as_tensor()

    with pytest.raises(ValueError, match="affine"):
        evaluate(EvaluationReport(tmp_path, STRUCTURES, from_engine(["pred", "label"])), [item])
