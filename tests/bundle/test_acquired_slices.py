"""Acquired slices through the real command line: tilted short-axis stacks with unequal fields of view, all run IDs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from builders import Array, read_json, write_nifti
from conftest import BUNDLE, RECOMMENDED, TINY, generate_phantom, run_bundle, run_script
from monai.bundle import ConfigParser
from scipy.spatial.transform import Rotation
from sifa import Segmenter
from sifa.data.dataset_json import read_dataset
from sifa.io.nifti_files import load_nifti
from sifa.planning.planner import write_plan

pytestmark = pytest.mark.slow

SHORT: dict[str, Any] = {**TINY, "val_interval": 0}


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of short-axis stacks, bSSFP with 240 mm wide slices to LGE with 140 mm wide ones."""
    counts = {"source_training": 3, "source_validation": 0, "target_training": 3, "target_validation": 1}
    counts |= {"target_test": 2, "labeled_target": 1, "spacing": 5}
    return generate_phantom(tmp_path_factory.mktemp("stacks") / "data", anatomy="short_axis", **counts)


@pytest.fixture(scope="module")
def run(stacks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a tiny training on them."""
    output = tmp_path_factory.mktemp("run") / "run"
    result = run_bundle("training", RECOMMENDED, dataset_dir=stacks, output_dir=output, **{**SHORT, "val_interval": 1})
    assert "both are cut to" in result.stdout + result.stderr
    return output


def scans_of(folder: Path) -> list[Path]:
    return sorted((folder / "lge_images").glob("lge_test_*.nii.gz"))


def voxels_of(path: Path) -> tuple[Array, Array]:
    image = load_nifti(path)
    assert image.affine is not None
    return np.asanyarray(image.dataobj), image.affine


def test_the_fingerprint_holds_the_slices_of_the_scans_and_their_view(stacks: Path, run: Path) -> None:
    fingerprint = read_json(run / "fingerprint.json")
    _, affine = voxels_of(scans_of(stacks)[0])
    assert (fingerprint["slice_plane"], fingerprint["orientation"]) == ("acquired", "acquired")
    assert fingerprint["matched_in_plane"]
    assert min(fingerprint["source_size"]) > 32  # room for random crops of the larger source slices
    assert fingerprint["source"]["training"]["median_spacing"][2] > 7  # mm, of stacks 8 to 10 mm apart
    assert 32 * fingerprint["spacing"][0] < 160  # mm: slices show what the smaller domain shows
    steps = nib.affines.voxel_sizes(affine)
    normal = affine[:3, steps.argmax()] / steps.max()
    assert abs(normal @ fingerprint["slice_view"]) > 0.8


def test_a_plane_across_the_slices_names_the_scans(stacks: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**SHORT, "epochs": 1, "iterations_per_epoch": 1, "slice_plane": "axial"}
    result = run_bundle("training", RECOMMENDED, dataset_dir=stacks, output_dir=tmp_path / "run", **options)
    assert "axial slices run along the coarse axis of" in result.stdout + result.stderr
    warnings = (tmp_path / "run" / "warnings.txt").read_text(encoding="utf-8")
    assert str(stacks) in warnings
    assert "or acquired, which takes each scan's own slices" in warnings


def test_the_plan_chooses_acquired_slices_around_the_labels_and_says_why(stacks: Path, tmp_path: Path) -> None:
    dataset = replace(read_dataset(stacks / "dataset.json"), slice_plane="")
    config: Any = ConfigParser.load_config_files([str(BUNDLE / "configs" / name) for name in RECOMMENDED])
    settings = {name: config.get(name) for name in config["planned"]}
    network = {"in_channels": 1, "width": 0.25}
    write_plan(dataset, network, config["intensity"], settings, None, tmp_path, match_in_plane=True)
    text = (tmp_path / "plan.yaml").read_text(encoding="utf-8")
    plan = yaml.safe_load(text)
    assert plan["slice_plane"] == "acquired"
    assert plan["slice_size"][0] * plan["pixel_spacing"] < 180  # mm: the target's slices, and not the source's 240
    assert "no plane of the patient fits" in text


def test_the_converter_proposes_acquired_slices_by_the_same_rule(stacks: Path, tmp_path: Path) -> None:
    for name in ("bssfp", "lge"):
        for kind in ("images", "labels"):
            source = stacks / f"{name}_{kind}"
            if source.is_dir():
                shutil.copytree(source, tmp_path / name / kind)
    places = (f"--source={tmp_path / 'bssfp'}", f"--target={tmp_path / 'lge'}", f"--output_dir={tmp_path / 'data'}")
    result = run_script("prepare_dataset.py", *places, "--target_modality=MR", "--target_labels=none")
    assert read_json(tmp_path / "data" / "dataset.json")["slice_plane"] == "acquired"
    assert "no plane of the patient fits" in result.stdout


def test_a_training_that_is_continued_ends_as_one_without_a_break(stacks: Path, run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**SHORT, "val_interval": 1, "dataset_dir": stacks, "output_dir": tmp_path / "run"}
    run_bundle("training", RECOMMENDED, **{**options, "epochs": 1})
    run_bundle("training", RECOMMENDED, **options, resume="auto")
    whole, continued = (
        torch.load(folder / "last" / "model.pt", weights_only=True) for folder in (run, tmp_path / "run")
    )
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


def test_masks_lie_in_each_scans_own_grid_and_do_not_depend_on_its_storage_order(
    stacks: Path, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scans"
    values, affine = voxels_of(scans_of(stacks)[0])
    turn = np.array([[2, -1], [0, 1], [1, -1]])
    turned = nib.orientations.apply_orientation(values, turn)
    write_nifti(folder / "as_stored.nii.gz", values, affine)
    write_nifti(folder / "turned.nii.gz", turned, affine @ nib.orientations.inv_ornt_aff(turn, values.shape))
    across = nib.affines.from_matvec(np.diag([1.6, 8.0, 1.6]), [-70, -40, -70])  # a coronal stack
    write_nifti(folder / "coronal.nii.gz", np.ascontiguousarray(values.transpose(0, 2, 1)), across)

    run_bundle("inference", ["inference.yaml"], model_dir=run, dataset_dir=folder, output_dir=tmp_path / "masks")

    mask, mask_affine = voxels_of(tmp_path / "masks" / "as_stored_seg.nii.gz")
    other, other_affine = voxels_of(tmp_path / "masks" / "turned_seg.nii.gz")
    assert mask.shape == values.shape
    assert np.allclose(mask_affine, affine, atol=1e-4)
    assert np.allclose(other_affine, affine @ nib.orientations.inv_ornt_aff(turn, values.shape), atol=1e-4)
    assert np.array_equal(other, nib.orientations.apply_orientation(mask, turn))
    assert mask.any()
    cases = {case["input"]: json.dumps(case) for case in read_json(tmp_path / "masks" / "manifest.json")["cases"]}
    assert "its slices are turned by" not in cases["as_stored.nii.gz"] + cases["turned.nii.gz"]
    assert "degrees from those of the training" in cases["coronal.nii.gz"]


def test_a_patient_who_is_turned_by_up_to_thirty_degrees_gets_the_same_mask(
    stacks: Path, run: Path, tmp_path: Path
) -> None:
    shutil.copy(run / "model.pt", tmp_path)
    content = {
        **read_json(run / "fingerprint.json"),
        "spatial_prior": {},
    }  # its positions are those of a patient upright
    (tmp_path / "fingerprint.json").write_text(json.dumps(content), encoding="utf-8")
    segmenter = Segmenter.from_run(tmp_path, device="cpu")
    values, _ = voxels_of(scans_of(stacks)[0])
    affine = np.diag([-1.6, -1.6, 8.0, 1.0])
    expected = segmenter.segment(values, affine).mask
    rng = np.random.default_rng(0)
    for degrees in (10, 20, 30):
        axis = rng.standard_normal(3)
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * axis / np.linalg.norm(axis)).as_matrix()
        found = segmenter.segment(values, turn @ affine).mask
        assert np.mean(found != expected) < 1e-3, degrees  # voxel sizes are rounded differently


def test_evaluating_and_adapting_measure_in_the_scans_own_slices(stacks: Path, run: Path, tmp_path: Path) -> None:
    places: dict[str, Any] = {"model_dir": run, "dataset_dir": stacks}
    run_bundle("adapting", ["train.yaml", "adapt_batch_norm.yaml"], **places, output_dir=tmp_path / "adapted")
    assert read_json(tmp_path / "adapted" / "fingerprint.json") == read_json(run / "fingerprint.json")
    run_bundle("evaluating", ["train.yaml", "evaluate.yaml"], **places, output_dir=tmp_path / "results")
    measured = read_json(tmp_path / "results" / "results.json")["metrics"]["mean_dice"]["structures"]
    assert set(measured) == set(read_json(stacks / "dataset.json")["labels"].values()) - {"background"}


def test_an_export_carries_the_slices_of_the_training(stacks: Path, run: Path, tmp_path: Path) -> None:
    scan = scans_of(stacks)[0]
    places = (f"--model_dir={run}", f"--scan={scan}", f"--output_dir={tmp_path}")
    run_script("export_bundle.py", *places, "--slices=2", "--repeats=1", "--torchscript_only")
    (row,) = (row for row in read_json(tmp_path / "exports.json")["rows"] if row["runtime"] == "TorchScript")
    assert row


@pytest.mark.parametrize("overlay", ["dann.yaml", "labeled_target.yaml"])
def test_other_methods_train_on_matched_fields_of_view(overlay: str, stacks: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**SHORT, "epochs": 1, "dataset_dir": stacks, "output_dir": tmp_path}
    options["iterations_per_epoch"] = 1
    run_bundle("training", [*RECOMMENDED, overlay], **options)
    assert read_json(tmp_path / "fingerprint.json")["matched_in_plane"]


def test_a_trained_network_is_adapted_without_a_source(stacks: Path, run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 2, "iterations_per_epoch": 2, "val_interval": 0}
    places: dict[str, Any] = {"dataset_dir": stacks, "output_dir": tmp_path, "initial_weights": run}
    run_bundle("training", [*RECOMMENDED, "source_free.yaml"], **places, **options)
    assert read_json(tmp_path / "fingerprint.json")["slice_plane"] == "acquired"
