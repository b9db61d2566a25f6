"""MONAI Deploy: its bundle operator, emulated on the exported TorchScript file, gives the masks of `run inference`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from builders import diagonal_affine, read_json, stored_as, write_nifti
from conftest import BUNDLE, ROOT, run_bundle, run_script
from deploy_operator import read_archive
from sifa.fingerprint.fingerprint import read_fingerprint

pytestmark = pytest.mark.slow

OPERATOR = Path(__file__).with_name("deploy_operator.py")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the project's Python package to, without what it needs."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "requirements.txt", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    shutil.copytree(BUNDLE / "sifa", source / "bundle" / "sifa", ignore=shutil.ignore_patterns("__pycache__"))
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *flags, "--target", str(target), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert result.returncode == 0, result.stderr
    return target


def test_the_installed_package_holds_every_file_of_the_bundles_package(installed: Path) -> None:
    files = {path.relative_to(BUNDLE) for path in (BUNDLE / "sifa").rglob("*") if path.is_file()}
    missing = {path for path in files if not (installed / path).is_file() and "__pycache__" not in path.parts}
    assert not missing


def export(folder: Path, *flags: str) -> Path:
    """Exports to TorchScript and returns the file."""
    run_script("export_bundle.py", f"--output_dir={folder}", "--torchscript_only", "--slices=8", "--repeats=1", *flags)
    return folder / "model.ts"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as TorchScript."""
    return export(tmp_path_factory.mktemp("exported"))


def run_operator(model: Path, scan: Path, package: Path, labels: Path) -> subprocess.CompletedProcess[str]:
    """Runs the operator in a process that finds `sifa` in the folder `package`."""
    command = [sys.executable, str(OPERATOR), str(model), str(scan), str(labels)]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.run(
        command, cwd=labels.parent, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300
    )


def deploy(model: Path, scan: Path, installed: Path, folder: Path) -> np.ndarray:
    """Runs the operator in a process that has the installed package, and no bundle; returns labels (W, H, D)."""
    labels = folder / "labels.npy"
    result = run_operator(model, scan, installed, labels)
    assert result.returncode == 0, result.stderr
    return np.load(labels).swapaxes(0, 2)


def segmented(scan: Path, folder: Path, **options: Any) -> np.ndarray:
    """Returns the mask of `run inference`."""
    run_bundle("inference", ["inference.yaml"], dataset_dir=scan, output_dir=folder / "masks", **options)
    mask: Any = nib.load(next((folder / "masks").rglob("*_seg.nii.gz")))
    return np.asarray(mask.dataobj)


def test_pip_installs_the_whole_package_with_its_version(installed: Path) -> None:
    packed = {path.relative_to(installed / "sifa") for path in (installed / "sifa").rglob("*.py")}
    assert packed == {path.relative_to(BUNDLE / "sifa") for path in (BUNDLE / "sifa").rglob("*.py")}
    ask = "import sifa.handlers, sifa.networks, importlib.metadata as m; print(m.version('sifa-ct-segmentation'))"
    result = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert result.stdout.strip() == read_json(BUNDLE / "configs" / "metadata.json")["version"], result.stderr


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAL"])
def test_deploys_operator_gives_the_voxels_of_run_inference(
    axcodes: str, exported: Path, installed: Path, phantom: Path, tmp_path: Path
) -> None:
    source: Any = nib.load(sorted((phantom / "ct_images").glob("ct_test_*.nii.gz"))[0])
    volume, affine = stored_as(np.asarray(source.dataobj).round().astype(np.int16), source.affine, axcodes)
    scan = write_nifti(tmp_path / "scan.nii.gz", volume, affine)
    labels = deploy(exported, scan, installed, tmp_path)
    assert np.array_equal(labels, segmented(scan, tmp_path))
    assert labels.any()


def test_the_archive_carries_the_fingerprint_of_its_own_model(installed: Path, phantom: Path, tmp_path: Path) -> None:
    model, shipped = tmp_path / "run", BUNDLE / "models"
    model.mkdir()
    state = torch.load(shipped / "model.pt", weights_only=True)
    for name in ("weight", "bias"):  # other labels than the shipped network's
        state[f"pixel_classifier.classifier.{name}"] = state[f"pixel_classifier.classifier.{name}"].roll(1, 0)
    torch.save(state, model / "model.pt")
    fingerprint = read_json(shipped / "fingerprint.json")
    fingerprint["labels"]["1"], fingerprint["name"] = "@wall", "$100 heart #1"
    (model / "fingerprint.json").write_text(json.dumps(fingerprint), encoding="utf-8")
    exported = export(tmp_path / "exported", f"--model_dir={model}")
    parser = read_archive(exported)
    assert parser.get_parsed_content("fingerprint") == read_fingerprint(model / "fingerprint.json")
    metadata = json.loads(zipfile.ZipFile(exported).read("model/extra/metadata.json"))
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == fingerprint["labels"]
    scan = sorted((phantom / "ct_images").glob("ct_test_*.nii.gz"))[0]
    labels = deploy(exported, scan, installed, tmp_path)
    assert np.array_equal(labels, segmented(scan, tmp_path, model_dir=model))


def test_a_small_oblique_scan_is_deployed_like_it_is_segmented(exported: Path, installed: Path, tmp_path: Path) -> None:
    affine = diagonal_affine((2.0, 1.7, 3.0))
    affine[:3, :3] = [[1.99, -0.1, 0], [0.117, 1.69, 0], [0, 0, 3.0]]
    volume = np.random.default_rng(0).normal(100, 200, size=(40, 36, 12)).astype(np.float32)
    scan = write_nifti(tmp_path / "scan.nii.gz", volume, affine)
    assert np.array_equal(deploy(exported, scan, installed, tmp_path), segmented(scan, tmp_path))


def test_a_file_that_version_0_1_0_exported_is_refused_with_one_sentence(tmp_path: Path) -> None:
    model = tmp_path / "model.ts"
    config = {  # the part of its inference.yaml that names classes of the package
        "device": "cpu",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "reader": {"_target_": "sifa.series_reader.SeriesReader"}}
            ],
        },
        "inferer": {"_target_": "sifa.inferer.SliceSegmenter", "orientation": "PLS"},
    }
    with zipfile.ZipFile(model, "w") as archive:
        archive.write(BUNDLE / "configs" / "metadata.json", "model/extra/metadata.json")
        archive.writestr("model/extra/inference.json", json.dumps(config))

    result = run_operator(model, tmp_path / "scan.nii.gz", BUNDLE, tmp_path / "labels.npy")

    assert result.returncode == 1
    assert result.stderr.startswith("error: sifa.")
    assert "version 0.1.0" in result.stderr
    assert len(result.stderr.splitlines()) == 1
