"""`run calibrating` and the predicted Dice of inference, through the real command line."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sifa
import torch
from builders import read_json, write_nifti
from conftest import RECOMMENDED, TINY, generate_phantom, run_bundle, run_script
from monai.data import MetaTensor
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.io.nifti_files import load_nifti
from sifa.networks.segmenter import Segmenter
from sifa.networks.weights import load_weights
from sifa.quality_control import calibrate, source_guide, weaker_networks
from sifa.utils.errors import InputError

pytestmark = pytest.mark.slow

CALIBRATE = ["train.yaml", "calibrate.yaml"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with eight held-out source scans."""
    counts = {"source_training": 2, "source_validation": 8, "target_training": 5, "target_validation": 0}
    return generate_phantom(tmp_path_factory.mktemp("calibrating") / "data", **counts, target_test=2, spacing=6.0)


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny training with `calibration.json`."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    options: dict[str, Any] = {**TINY, "val_interval": 0, "keep_epochs": True}
    run_bundle("training", RECOMMENDED, dataset_dir=data, output_dir=folder, **options)
    result = run_bundle("calibrating", CALIBRATE, dataset_dir=data, model_dir=folder)
    assert "imitated target scans" in result.stdout + result.stderr
    return folder


def scans_of(data: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in (data / "ct_images").glob("ct_test_*"):
        shutil.copy(path, folder)
    return folder


def test_the_file_says_what_it_was_measured_on(model: Path) -> None:
    content = read_json(model / "calibration.json")
    assert content["about"] == "predicted Dice, measured on imitated target scans"
    assert content["scans"] == 8
    assert content["masks"] == 8 * 4 * 2  # four kinds of imitation; the model and the other epoch
    assert set(content["fits"]) == {"fast", "full"}
    assert content["resemblance"]["target_scans"] == 5
    assert 0 <= content["resemblance"]["auroc"] <= 1


def test_a_run_without_a_generator_is_calibrated_on_the_style_of_target_scans(
    data: Path, model: Path, tmp_path: Path
) -> None:
    for name in ("model.pt", "fingerprint.json"):
        shutil.copy(model / name, tmp_path)
    result = run_bundle("calibrating", CALIBRATE, dataset_dir=data, model_dir=tmp_path)
    content = read_json(tmp_path / "calibration.json")
    assert content["kinds"][0] == "fourier"
    assert ", ".join(content["kinds"]) in result.stdout + result.stderr


def test_a_scan_and_a_model_in_doubt_have_wider_intervals_and_say_so(data: Path, model: Path, tmp_path: Path) -> None:
    doubtful = tmp_path / "doubtful"
    shutil.copytree(model, doubtful, ignore=shutil.ignore_patterns("epochs", "checkpoints"))
    content = read_json(model / "calibration.json")
    widths = {}
    for name, auroc, farthest in (("known", 0.5, 1e9), ("far", 0.5, 0.0), ("unlike", 1.0, 1e9)):
        content["resemblance"].update(auroc=auroc, effective_scans=30.0)
        content["latents"]["farthest"] = farthest
        for fitted in content["fits"].values():
            fitted.update(scores=[0.0], dice=[0.5], widths=[0.01] * 3, cautious_widths=[0.02] * 3)
        (doubtful / "calibration.json").write_text(json.dumps(content), encoding="utf-8")
        segmenter = sifa.Segmenter.from_run(doubtful, device="cpu")
        found = segmenter.segment(next(iter((data / "ct_images").glob("ct_test_*"))))
        figures = [entry for entry in found.quality.values() if 0.1 < entry["predicted_dice"] < 0.9]
        widths[name] = [entry["high"] - entry["low"] for entry in figures]
        assert any("does not resemble this scan" in warning for warning in found.warnings) == (name == "far")
        assert any("does not resemble the target scans" in one for one in found.warnings) == (name == "unlike")
    assert widths["known"] == pytest.approx([0.02] * len(widths["known"]), abs=2e-3)
    assert widths["far"] == widths["unlike"] == pytest.approx([0.04] * len(widths["known"]), abs=2e-3)
    assert widths["known"]
    scans = scans_of(data, tmp_path / "scans")
    run_bundle("inference", ["inference.yaml"], model_dir=doubtful, dataset_dir=scans, output_dir=tmp_path / "masks")
    for case in read_json(tmp_path / "masks" / "manifest.json")["cases"]:
        assert "does not resemble the target scans" in case["message"]
        assert case["status"] == (
            "flagged" if case["flags"] else "ok"
        )  # a doubt about the model is none about the scan


def test_inference_predicts_dice_and_masks_stay_as_they_are(data: Path, model: Path, tmp_path: Path) -> None:
    scans = scans_of(data, tmp_path / "scans")
    for name in ("none", "fast", "full"):
        options: dict[str, Any] = {"output_dir": tmp_path / name, "trust": name, "previews": True}
        run_bundle("inference", ["inference.yaml"], model_dir=model, dataset_dir=scans, **options)
    plain, fast, full = (read_json(tmp_path / name / "manifest.json")["cases"] for name in ("none", "fast", "full"))
    assert [case["mask_hash"] for case in plain] == [case["mask_hash"] for case in fast]
    assert [case["mask_hash"] for case in plain] == [case["mask_hash"] for case in full]
    assert not any("predicted_dice" in entry for case in plain for entry in case["quality"].values())
    for case in fast + full:
        for entry in case["quality"].values():
            assert 0 <= entry["low"] <= entry["predicted_dice"] <= entry["high"] <= 1
    with (tmp_path / "fast" / "volumes.csv").open(encoding="utf-8") as file:
        assert {"predicted_dice", "low", "high"} <= set(next(csv.reader(file)))
    assert "Look at these first" in (tmp_path / "fast" / "index.html").read_text(encoding="utf-8")


def test_scans_without_predictions_are_done_again_when_there_is_a_calibration(
    data: Path, model: Path, tmp_path: Path
) -> None:
    scans = scans_of(data, tmp_path / "scans")
    places: dict[str, Any] = {"dataset_dir": scans, "output_dir": tmp_path / "masks"}
    without = tmp_path / "without"
    shutil.copytree(model, without, ignore=shutil.ignore_patterns("calibration.json", "epochs", "checkpoints"))
    run_bundle("inference", ["inference.yaml"], model_dir=without, **places)
    shutil.copy(model / "calibration.json", without)
    run_bundle("inference", ["inference.yaml"], model_dir=without, **places)
    cases = read_json(tmp_path / "masks" / "manifest.json")["cases"]
    assert all("predicted_dice" in entry for case in cases for entry in case["quality"].values())


def test_a_calibration_of_another_model_is_refused_before_any_scan(data: Path, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other, ignore=shutil.ignore_patterns("epochs", "checkpoints"))
    epochs = [path.read_bytes() for path in sorted((model / "epochs").glob("*/model.pt"))]
    (other / "model.pt").write_bytes(next(each for each in epochs if each != (model / "model.pt").read_bytes()))
    places: dict[str, Any] = {"dataset_dir": scans_of(data, tmp_path / "scans"), "output_dir": tmp_path / "masks"}
    result = run_bundle("inference", ["inference.yaml"], model_dir=other, check=False, **places)
    assert result.returncode == 1
    assert "belongs to another model.pt" in result.stderr
    assert not list((tmp_path / "masks").glob("*.nii.gz"))


def test_a_shared_run_predicts_dice_as_the_run_does(data: Path, model: Path, tmp_path: Path) -> None:
    run_script("package_bundle.py", f"--model_dir={model}", "--name=shared", f"--output_dir={tmp_path}")
    with zipfile.ZipFile(next(tmp_path.glob("shared_v*.zip"))) as archive:
        archive.extractall(tmp_path)
    scans = scans_of(data, tmp_path / "scans")
    qualities = []
    for name, folder in (("run", model), ("shared", tmp_path / "shared" / "models")):
        places: dict[str, Any] = {"dataset_dir": scans, "output_dir": tmp_path / f"{name} masks", "model_dir": folder}
        run_bundle("inference", ["inference.yaml"], **places)
        cases = read_json(tmp_path / f"{name} masks" / "manifest.json")["cases"]
        qualities.append([case["quality"] for case in cases])
    assert qualities[0] == qualities[1]
    assert "predicted_dice" in next(iter(qualities[0][0].values()))


def with_whole_paths(data: Path) -> Any:
    """Returns the content of a dataset.json that may be written into another folder."""
    content = read_json(data / "dataset.json")
    for entries in (*content["source"].values(), *content["target"].values()):
        for entry in entries if isinstance(entries, list) else []:
            entry.update({kind: str(data / path) for kind, path in entry.items()})
    return content


def damaged_data(data: Path, folder: Path, change: str) -> Path:
    """Returns a dataset.json whose first held-out scan, or whose description, is damaged."""
    content = with_whole_paths(data)
    first = content["source"]["validation"][0]
    kind = "label" if change == "no structure" else "image"
    image = load_nifti(Path(first[kind]))
    values = np.asarray(image.dataobj).astype(np.float32)
    if change == "NaN":
        values[0, 0, 0] = np.nan
    if change == "no structure":
        values[:] = 0
    assert image.affine is not None
    write_nifti(folder / "damaged.nii.gz", values, image.affine)
    if change == "cut off":
        whole = (folder / "damaged.nii.gz").read_bytes()
        (folder / "damaged.nii.gz").write_bytes(whole[: len(whole) // 2])
    if change == "names":
        content["labels"]["1"] = "liver"
    elif change == "modality":
        content["source"]["modality"] = "CT"
    else:
        first[kind] = str(folder / "damaged.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "dataset.json"


def test_target_scans_that_cannot_be_segmented_are_refused_by_name(data: Path, model: Path, tmp_path: Path) -> None:
    content = with_whole_paths(data)
    image = load_nifti(Path(content["target"]["training"][1]["image"]))
    values = np.asarray(image.dataobj).astype(np.float32)
    values[3, 3, 3] = np.nan
    assert image.affine is not None
    write_nifti(tmp_path / "damaged.nii.gz", values, image.affine)
    content["target"]["training"][1]["image"] = str(tmp_path / "damaged.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    options: dict[str, Any] = {"dataset_file": tmp_path / "dataset.json", "model_dir": model}
    result = run_bundle("calibrating", CALIBRATE, check=False, **options)
    assert result.returncode == 1
    assert "damaged.nii.gz: it holds NaN or infinite values" in result.stderr.splitlines()[-1]
    assert "calibration scans" not in result.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("NaN", "it has values that are not finite numbers"),
        ("no structure", "it shows no structure"),
        ("cut off", "damaged.nii.gz"),
        ("names", "give the data set that the model was trained on"),
        ("modality", "give the data set that the model was trained on"),
    ],
)
def test_held_out_scans_and_data_sets_that_cannot_be_used_are_refused_at_the_start(
    change: str, reason: str, data: Path, model: Path, tmp_path: Path
) -> None:
    before = (model / "calibration.json").read_bytes()
    file = damaged_data(data, tmp_path, change)
    result = run_bundle("calibrating", CALIBRATE, dataset_file=file, model_dir=model, check=False)
    assert result.returncode != 0
    assert reason in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert "calibration scans" not in result.stderr
    assert (model / "calibration.json").read_bytes() == before


def test_a_new_training_leaves_nothing_of_an_earlier_one_for_calibration(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**TINY, "epochs": 1, "val_interval": 0, "dataset_dir": data, "output_dir": tmp_path}
    run_bundle("training", RECOMMENDED, keep_epochs=True, **options)
    assert (tmp_path / "generators").is_dir()
    run_bundle("training", ["train.yaml", "source_only.yaml"], **options)
    assert not (tmp_path / "generators").exists()
    assert not (tmp_path / "epochs").exists()


def test_an_unknown_trust_and_full_without_a_calibration_are_refused(data: Path, trained: Path, tmp_path: Path) -> None:
    places: dict[str, Any] = {"dataset_dir": scans_of(data, tmp_path / "scans"), "output_dir": tmp_path / "masks"}
    for trust, status, reason in (("blind", 2, "choose fast, full or none"), ("full", 1, "there is no calibration")):
        options: dict[str, Any] = {**places, "trust": trust, "model_dir": trained}
        result = run_bundle("inference", ["inference.yaml"], check=False, **options)
        assert result.returncode == status
        assert reason in result.stderr


def test_too_few_held_out_scans_are_refused_with_what_to_do(phantom: Path, trained: Path) -> None:
    result = run_bundle("calibrating", CALIBRATE, dataset_dir=phantom, model_dir=trained, check=False)
    assert result.returncode == 1
    assert "source.validation lists 0 scans: calibrating needs at least 8" in result.stderr
    assert not (trained / "calibration.json").exists()


def test_labels_of_held_out_scans_reach_no_image(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("model.pt", "fingerprint.json"):
        shutil.copy(model / name, tmp_path)
    shutil.copytree(model / "generators", tmp_path / "generators")
    fingerprint = read_fingerprint(model / "fingerprint.json")
    network = Segmenter(1, fingerprint.network.out_channels, fingerprint.network.width)
    load_weights(network, model / "model.pt")
    seen: list[torch.Tensor] = []
    forward = Segmenter.forward

    def spy(self: Segmenter, image: torch.Tensor) -> torch.Tensor:
        seen.append(image.detach().clone())
        return forward(self, image)

    def images_seen(label: float) -> list[torch.Tensor]:
        def prepare(item: Any) -> dict[str, MetaTensor]:
            image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(int(item["image"]))) * 2 - 1
            poisoned = label if item["kind"] == "held out" else 1.0
            return {"image": MetaTensor(image), "label": MetaTensor(torch.full((1, 32, 32, 3), poisoned))}

        seen.clear()
        inferer = SliceSegmenter.from_fingerprint(fingerprint, check_scans=False)
        held_out = [{"image": str(number), "kind": "held out"} for number in range(2)]
        training = [{"image": "99", "kind": "training"}]
        loss = lambda logits, one: torch.nn.functional.cross_entropy(logits, one[:, 0])  # noqa: E731
        with pytest.raises(InputError, match="it has not learned them"):  # noise shows no structures
            calibrate(held_out, training, target, prepare, loss, network, fingerprint, inferer, tmp_path, "cpu")
        return list(seen)

    target = [{"image": str(tmp_path / "target.nii.gz")}]
    write_nifti(Path(target[0]["image"]), np.random.default_rng(0).uniform(-200, 300, (32, 32, 32)), np.eye(4))
    monkeypatch.setattr(Segmenter, "forward", spy)
    monkeypatch.setattr(source_guide, "ITERATIONS", 2)
    monkeypatch.setattr(weaker_networks, "EARLIER", 1)
    one, other = images_seen(1.0), images_seen(2.0)
    assert len(one) == len(other) > 8
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not (tmp_path / "calibration.json").exists()
