"""`sifa.Segmenter`: files, arrays and tensors give the masks of the command line, and bad input one sentence."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from builders import calibrate_by_hand, make_fingerprint, read_json, refusal, write_nifti
from conftest import BUNDLE, ROOT, run_bundle
from monai.data import MetaTensor
from sifa import Segmenter
from sifa.fingerprint.fingerprint import read_fingerprint, write_fingerprint
from sifa.networks import Segmenter as Network

MODELS = BUNDLE / "models"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_run(MODELS, device="cpu")


@pytest.fixture(scope="module")
def scan(phantom: Path) -> Path:
    return sorted((phantom / "ct_images").glob("*.nii.gz"))[0]


@pytest.fixture
def image(scan: Path) -> nib.Nifti1Image:
    loaded = nib.load(scan)
    assert isinstance(loaded, nib.Nifti1Image)
    return loaded


def test_a_file_gets_the_mask_of_the_command_line(segmenter: Segmenter, scan: Path, tmp_path: Path) -> None:
    run = run_bundle("inference", ["inference.yaml"], dataset_dir=scan, output_dir=tmp_path / "masks")
    assert run.returncode == 0, run.stderr

    result = segmenter.segment(scan)
    result.save(tmp_path / "own_seg.nii.gz")

    mask = next((tmp_path / "masks").glob("*_seg.nii.gz"))
    assert (tmp_path / "own_seg.nii.gz").read_bytes() == mask.read_bytes()
    assert result.structures == read_fingerprint(MODELS / "fingerprint.json").structure_names
    assert set(result.quality) == set(result.structures.values())


def test_arrays_tensors_and_storage_orders_get_the_same_mask(
    segmenter: Segmenter, scan: Path, image: nib.Nifti1Image
) -> None:
    array, affine = np.asarray(image.dataobj), image.affine
    expected = segmenter.segment(scan).mask
    flipped, flip = array[::-1].copy(), affine @ np.diag([-1, 1, 1, 1])
    flip[:3, 3] += affine[:3, 0] * (len(array) - 1)

    for other in (
        segmenter.segment(array, affine),
        segmenter.segment(array[None].astype(np.float64), affine.tolist()),
        segmenter.segment(torch.as_tensor(array), affine),
        segmenter.segment(MetaTensor(array, affine=affine)),
    ):
        assert torch.equal(other.mask.as_tensor(), expected.as_tensor())
        assert np.allclose(other.mask.affine, affine)
    assert torch.equal(segmenter.segment(flipped, flip).mask.as_tensor().flip(0), expected.as_tensor())


def test_masks_hold_the_values_of_the_data_set(segmenter: Segmenter, image: nib.Nifti1Image, tmp_path: Path) -> None:
    known = read_fingerprint(MODELS / "fingerprint.json")
    values = {0: 0, 1: 205, 2: 420, 3: 500, 4: 820}
    write_fingerprint(known.__class__(**{**vars(known), "label_values": values}), tmp_path / "fingerprint.json")
    (tmp_path / "model.pt").write_bytes((MODELS / "model.pt").read_bytes())

    mapped = Segmenter.from_run(tmp_path, device="cpu").segment(np.asarray(image.dataobj), image.affine)
    plain = segmenter.segment(np.asarray(image.dataobj), image.affine)

    table = torch.tensor([values[index] for index in range(5)], dtype=torch.int16)
    assert torch.equal(mapped.mask.as_tensor(), table[plain.mask.as_tensor().long()])
    assert mapped.structures == {values[index]: name for index, name in plain.structures.items()}


def test_only_the_largest_component_of_a_structure_is_kept(image: nib.Nifti1Image, segmenter: Segmenter) -> None:
    array, affine = np.asarray(image.dataobj), image.affine
    names = list(segmenter.segment(array, affine).quality)

    single = Segmenter.from_run(MODELS, device="cpu", largest_component=names)

    assert {figures["components"] for figures in single.segment(array, affine).quality.values()} <= {0, 1}


def test_several_runs_and_flips_are_averaged(image: nib.Nifti1Image, tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        folder = tmp_path / str(seed)
        write_fingerprint(make_fingerprint(), folder / "fingerprint.json")
        size = make_fingerprint().network
        torch.save(Network(size.in_channels, size.out_channels, size.width).state_dict(), folder / "model.pt")
    runs = [tmp_path / "0", tmp_path / "1"]
    array, affine = np.asarray(image.dataobj), image.affine

    masks = [Segmenter.from_run(given, device="cpu").segment(array, affine).mask for given in (runs, tuple(runs))]
    flipped = Segmenter.from_run(runs[0], device="cpu", tta="rows").segment(array, affine).mask

    assert torch.equal(masks[0], masks[1])
    assert flipped.shape == masks[0].shape


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights with a calibration."""
    folder = tmp_path_factory.mktemp("calibrated")
    for name in ("model.pt", "fingerprint.json"):
        shutil.copy(MODELS / name, folder)
    calibrate_by_hand(folder)
    return folder


@pytest.mark.parametrize("trust", ["fast", "full"])
def test_predicted_dice_is_that_of_the_command_line(
    trust: str, calibrated: Path, segmenter: Segmenter, scan: Path, tmp_path: Path
) -> None:
    places: dict[str, Any] = {"model_dir": calibrated, "dataset_dir": scan, "output_dir": tmp_path}
    run_bundle("inference", ["inference.yaml"], trust=trust, **places)
    (case,) = read_json(tmp_path / "manifest.json")["cases"]

    found = Segmenter.from_run(calibrated, device="cpu", trust=trust).segment(scan)

    assert found.quality == case["quality"]
    assert all({"predicted_dice", "low", "high"} <= set(figures) for figures in found.quality.values())
    assert any("predicted Dice" in flag for figures in found.quality.values() for flag in figures["flags"])
    assert torch.equal(found.mask.as_tensor(), segmenter.segment(scan).mask.as_tensor())


def test_dice_is_not_predicted_without_trust_and_for_several_runs(
    calibrated: Path, segmenter: Segmenter, image: nib.Nifti1Image
) -> None:
    array, affine = np.asarray(image.dataobj), image.affine
    plain = segmenter.segment(array, affine).quality

    assert Segmenter.from_run(calibrated, device="cpu", trust="none").segment(array, affine).quality == plain
    several = Segmenter.from_run([calibrated, MODELS], device="cpu").segment(array, affine)
    assert not any("predicted_dice" in figures for figures in several.quality.values())


# --- bad input ---


def test_what_is_no_scan_is_refused_in_one_sentence(segmenter: Segmenter, scan: Path, tmp_path: Path) -> None:
    array, affine = np.zeros((20, 20, 20), np.int16), np.eye(4)
    write_nifti(tmp_path / "several" / "a.nii.gz", array)
    write_nifti(tmp_path / "several" / "b.nii.gz", array)
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.nii.gz").write_bytes(scan.read_bytes()[:2000])
    (tmp_path / "text.txt").write_text("no scan", encoding="utf-8")
    segment = segmenter.segment

    for given, words in (
        (partial(segment, tmp_path / "missing.nii.gz"), "missing.nii.gz: there is no such file"),
        (partial(segment, tmp_path / "several"), "several: it holds 2 scans"),
        (partial(segment, tmp_path / "empty"), "empty: it holds no scan"),
        (partial(segment, tmp_path / "text.txt"), "text.txt: "),
        (partial(segment, str(tmp_path / "cut.nii.gz")), "cut.nii.gz: "),
        (partial(segment, scan, affine), "leave out 'affine'"),
        (partial(segment, MetaTensor(array), affine), "leave out 'affine'"),
        (partial(segment, array), "an array has no affine"),
        (partial(segment, array, np.eye(3)), "the shape (3, 3)"),
        (partial(segment, array, "RAS"), "no array of numbers"),
        (partial(segment, array, np.full((4, 4), np.nan)), "affine is singular"),
        (partial(segment, array.astype(complex), affine), "complex"),
        (partial(segment, array, affine), "it is empty"),
        (partial(segment, np.stack([array] * 2), affine), "2 channels"),
        (partial(segment, array[0], affine), "2 dimensions"),
        (partial(segment, np.full((20, 20, 20), np.nan), affine), "NaN"),
    ):
        message = refusal(given)
        assert words in message, message
        assert message.count(str(tmp_path)) <= 2


def test_wrong_settings_are_refused_before_anything_is_segmented(tmp_path: Path) -> None:
    for settings, words in (
        ({"largest_component": ["spleen"]}, "'spleen' is not a structure"),
        ({"precision": "float16"}, "choose float32"),
        ({"tta": "slices"}, "no axis"),
        ({"device": "cuda:77"}, "no such device"),
        ({"trust": "blind"}, "choose fast, full or none"),
        ({"trust": "full"}, "there is no calibration"),
    ):
        assert words in refusal(partial(Segmenter.from_run, MODELS, **{"device": "cpu", **settings}))
    assert "there is no fingerprint" in refusal(partial(Segmenter.from_run, tmp_path))


def test_a_calibration_of_another_model_is_refused(calibrated: Path, tmp_path: Path) -> None:
    for name in ("model.pt", "fingerprint.json", "calibration.json"):
        shutil.copy(calibrated / name, tmp_path)
    state = torch.load(tmp_path / "model.pt")
    torch.save({name: tensor + 1 for name, tensor in state.items()}, tmp_path / "model.pt")

    assert "belongs to another model.pt" in refusal(partial(Segmenter.from_run, tmp_path, device="cpu"))


def test_a_mask_is_saved_as_nifti_only(segmenter: Segmenter, scan: Path, tmp_path: Path) -> None:
    result = segmenter.segment(scan)

    assert "mask.png: masks are written as NIfTI" in refusal(partial(result.save, tmp_path / "mask.png"))


# --- as documented ---


@pytest.mark.slow
def test_the_example_of_the_documents_runs(phantom: Path) -> None:
    command = [sys.executable, str(BUNDLE / "docs" / "python_example.py"), str(phantom)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert "scan,status,structure,value,volume_ml" in result.stdout


@pytest.mark.slow
def test_the_installed_package_segments_without_the_bundle_around_it(scan: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import sifa; from sifa import Segmenter;"
        "print(sifa.__file__, Segmenter.from_run(sys.argv[2]).segment(sys.argv[3]).mask.max())"
    )
    places = [str(tmp_path / "installed"), str(MODELS), str(scan)]
    result = subprocess.run([sys.executable, "-c", code, *places], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "installed") in result.stdout
