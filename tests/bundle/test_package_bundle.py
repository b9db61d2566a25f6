"""The zip: what is in it, that its bytes can be made again, and that its folder works alone in another place."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from builders import read_json
from conftest import BUNDLE, ROOT, run_bundle, run_script


def package(folder: Path, bundle: Path = BUNDLE) -> Path:
    """Packs a bundle and returns the zip."""
    printed = run_script("package_bundle.py", f"--output_dir={folder}", f"--bundle={bundle}").stdout
    return Path(printed.splitlines()[0])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the bundle, to change."""
    return Path(shutil.copytree(BUNDLE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__")))


def test_the_zip_is_named_for_model_and_version_and_holds_one_folder(tmp_path: Path) -> None:
    archive = package(tmp_path)
    metadata = read_json(BUNDLE / "configs" / "metadata.json")
    name, version = re.fullmatch(r"([a-z0-9_]+_segmentation)_v([0-9.]+)\.zip", archive.name).groups()  # type: ignore[union-attr]
    assert name == metadata["name"].lower().replace(" ", "_").replace("-", "_")
    assert version == metadata["version"]
    names = zipfile.ZipFile(archive).namelist()
    assert {part.split("/")[0] for part in names} == {name}
    assert {part.split("/")[1] for part in names} == {
        "LICENSE",
        "requirements.txt",
        "configs",
        "docs",
        "models",
        "sifa",
    }
    assert f"{name}/models/fingerprint.json" in names
    assert {f"{name}/sifa/reports/templates/{file}.html.j2" for file in ("page", "case_index")} <= set(names)


def test_what_runs_and_systems_leave_behind_is_not_packed(copy: Path, tmp_path: Path) -> None:
    clean = package(tmp_path / "clean", copy)
    strays = ("sifa/__pycache__/keys.pyc", "eval/scan_seg.nii.gz", "output/model.pt", "docs/.hidden", "notes.txt")
    for stray in (*strays, "sifa_ct_segmentation.egg-info/PKG-INFO"):
        (copy / stray).parent.mkdir(exist_ok=True)
        (copy / stray).write_text("stray", encoding="utf-8")
    assert zipfile.ZipFile(package(tmp_path / "dirty", copy)).namelist() == zipfile.ZipFile(clean).namelist()


def test_the_same_files_give_the_same_bytes(copy: Path, tmp_path: Path) -> None:
    first = package(tmp_path / "first", copy)
    for path in copy.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (copy / "LICENSE").chmod(0o600)
    assert package(tmp_path / "second", copy).read_bytes() == first.read_bytes()
    with open(copy / "configs" / "compact.yaml", "a", encoding="utf-8") as stream:
        stream.write("# changed\n")
    assert package(tmp_path / "third", copy).read_bytes() != first.read_bytes()


def test_versions_that_disagree_are_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "sifa" / "__init__.py").write_text('__version__ = "9.9.9"\n', encoding="utf-8")
    result = run_script("package_bundle.py", f"--output_dir={tmp_path}", f"--bundle={copy}", check=False)
    assert result.returncode == 1
    assert "which sifa/__init__.py has not" in result.stderr
    assert not list(tmp_path.glob("*.zip"))


def test_the_citation_has_the_version_of_the_metadata() -> None:
    version = read_json(BUNDLE / "configs" / "metadata.json")["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_unzipped_folder_segments_like_the_checkout_from_anywhere(phantom: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another place" / "with spaces"
    with zipfile.ZipFile(package(tmp_path)) as archive:
        archive.extractall(elsewhere)
    (unzipped,) = elsewhere.iterdir()
    scan = sorted((phantom / "ct_images").glob("ct_test_*.nii.gz"))[0]
    found: dict[str, Any] = {}
    for name, bundle in (("checkout", BUNDLE), ("zip", unzipped)):
        output = tmp_path / "masks" / name
        run_bundle("inference", ["inference.yaml"], bundle=bundle, cwd="/", dataset_dir=scan, output_dir=output)
        found[name] = nib.load(next(output.rglob("*_seg.nii.gz")))
    assert np.array_equal(found["zip"].affine, found["checkout"].affine)
    labels = np.asarray(found["zip"].dataobj)
    assert np.array_equal(labels, np.asarray(found["checkout"].dataobj))
    assert labels.any()
