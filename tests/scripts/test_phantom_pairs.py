"""scripts/make_phantom.py: the pairs of modalities beside hearts in MR and CT, with few subjects on coarse grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from builders import read_json
from conftest import run_script
from sifa.data.dataset_json import read_dataset

pytestmark = pytest.mark.slow

FEW = [f"--{name}=1" for name in ("source_validation", "target_validation", "target_test", "workers")]
SPACING = 4.0
HEART_MEAN = 268.5953  # of the first MR scan, as version 0.4.0 drew it
HEART_VOXELS = [822, 362, 680, 541]  # of its structures


def make(folder: Path, *options: str, training: int = 1) -> Path:
    """Writes a data set with one subject in each list, and `training` in both training lists."""
    counts = [f"--source_training={training}", f"--target_training={training}"]
    run_script("make_phantom.py", str(folder), *FEW, *counts, f"--spacing={SPACING}", *options)
    return folder


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hearts, MR to CT."""
    return make(tmp_path_factory.mktemp("heart") / "data")


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Abdomens, MR to CT."""
    return make(tmp_path_factory.mktemp("abdomen") / "data", "--anatomy=abdomen", "--spacing=6")


@pytest.fixture(scope="module")
def short_axis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short-axis stacks, bSSFP to LGE."""
    return make(tmp_path_factory.mktemp("short_axis") / "data", "--anatomy=short_axis", training=3)


def load(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns voxels and affine of a NIfTI file as stored."""
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    assert image.affine is not None
    return np.asanyarray(image.dataobj), image.affine


def scans(folder: Path, prefix: str) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]]:
    """Returns image, label and affine of every subject whose files begin with `prefix`."""
    labels = {path.name: path for path in folder.glob("*labels/*.nii.gz")}
    found = [(path, labels[path.name]) for path in sorted(folder.glob(f"{prefix}_images/*.nii.gz"))]
    assert found
    return [(load(image)[0], *load(label)) for image, label in found]


def center(label: npt.NDArray[Any], affine: npt.NDArray[Any], value: int) -> npt.NDArray[np.float64]:
    """Returns the center of a structure: mm to the patient's right, front and top."""
    return nib.affines.apply_affine(affine, np.argwhere(label == value).mean(axis=0))


@pytest.mark.parametrize(
    ("name", "plane", "source", "target"),
    [("abdomen", "axial", "MR", "CT"), ("short_axis", "acquired", "BSSFP", "LGE")],
)
def test_the_description_names_plane_and_modalities(
    name: str, plane: str, source: str, target: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    dataset = read_json(folder / "dataset.json")
    assert (dataset["slice_plane"], dataset["source"]["modality"], dataset["target"]["modality"]) == (
        plane,
        source,
        target,
    )
    assert "not patients" in dataset["name"]
    assert read_dataset(folder / "dataset.json").target_test
    assert read_dataset(folder / "supervised.json", needs_target=False).source_training


def test_hearts_of_a_seed_are_those_that_results_were_measured_on(heart: Path) -> None:
    [(image, label, _)] = [scans(heart, "mr")[0]]
    volumes = np.bincount(label.ravel(), minlength=5)[1:]
    assert image.mean() == pytest.approx(HEART_MEAN, rel=1e-3)
    assert volumes == pytest.approx(HEART_VOXELS, rel=1e-2)


def test_turning_the_pair_round_scans_the_same_hearts_with_the_other_modality(heart: Path, tmp_path: Path) -> None:
    turned = make(tmp_path / "turned", "--source=ct", "--target=bssfp")
    dataset = read_json(turned / "dataset.json")
    assert (dataset["source"]["modality"], dataset["target"]["modality"]) == ("CT", "MR")
    (image, label, affine), (other, other_label, other_affine) = scans(heart, "mr")[0], scans(turned, "ct")[0]
    assert np.array_equal(label, other_label)
    assert np.array_equal(affine, other_affine)
    assert other.min() < -500 < 0 <= image.min()


def test_abdominal_organs_lie_on_their_sides_and_ct_is_longer_than_mr(abdomen: Path) -> None:
    for _, label, affine in (*scans(abdomen, "mr"), *scans(abdomen, "ct")):
        liver, right_kidney, left_kidney, spleen = (center(label, affine, value) for value in (1, 2, 3, 4))
        assert spleen[0] < left_kidney[0] < 0 < right_kidney[0] < 100
        assert liver[0] > 20
        assert spleen[2] > left_kidney[2] > right_kidney[2]
        assert right_kidney[1] < liver[1]
        milliliters = np.bincount(label.ravel(), minlength=5)[1:] * abs(np.linalg.det(affine[:3, :3])) / 1000
        assert np.all((milliliters > (700, 40, 40, 50)) & (milliliters < (2600, 320, 320, 600)))
    lengths = [
        min((size * step, step) for size, step in zip(label.shape, nib.affines.voxel_sizes(affine), strict=True))
        for prefix in ("mr", "ct")
        for _, label, affine in scans(abdomen, prefix)[:1]
    ]
    assert 180 < lengths[0][0] < 240
    assert 260 < lengths[1][0] < 340


def test_short_axis_stacks_are_tilted_thick_and_narrower_in_lge(short_axis: Path) -> None:
    tilts = []
    for prefix, width in (("bssfp", 240), ("lge", 140)):
        for image, _, affine in scans(short_axis, prefix):
            sizes = nib.affines.voxel_sizes(affine)
            axis = int(np.argmax(sizes))
            in_plane = np.delete(np.array(image.shape) * sizes, axis)
            assert 8 <= sizes[axis] <= 10
            assert np.allclose(in_plane, width, rtol=0.12)
            normal = np.abs(affine[:3, axis]) / sizes[axis]
            tilts.append(np.rad2deg(np.arccos(normal.max())))
    assert max(tilts) > 30
    assert min(tilts) > 10  # from the nearest axis of the patient


def test_the_myocardium_is_dark_in_lge_with_bright_scars_that_are_labeled_as_myocardium(short_axis: Path) -> None:
    ratios, brightest = [], []
    for image, label, _ in scans(short_axis, "lge"):
        wall, blood = image[label == 1], image[label == 2]
        ratios.append(np.percentile(wall, 20) / np.median(blood))
        brightest.append(np.percentile(wall, 95) / np.median(blood))
    assert max(ratios) < 0.6
    assert max(brightest) > 0.8
    for image, label, _ in scans(short_axis, "bssfp"):
        assert np.percentile(image[label == 1], 20) > 0.3 * np.median(image[label == 2])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--anatomy=brain"], "--anatomy is 'brain'"),
        (["--source=mr_t1"], "--source is 'mr_t1'"),
        (["--anatomy=short_axis", "--target=ct"], "--target is 'ct'"),
        (["--source=ct"], "--source and --target are both ct"),
    ],
)
def test_a_pair_that_does_not_exist_is_refused_with_the_choices(options: list[str], named: str, tmp_path: Path) -> None:
    result = run_script("make_phantom.py", str(tmp_path / "data"), *options, check=False)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert named in result.stderr
    assert "choose" in result.stderr
    assert not (tmp_path / "data").exists()
