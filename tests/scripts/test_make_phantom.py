"""scripts/make_phantom.py, run as a user does, with few subjects on coarse grids."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from builders import read_json
from conftest import run_python
from sifa.data.dataset_json import read_dataset

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_phantom.py"
COUNTS = {
    "source_training": 6,
    "source_validation": 1,
    "target_training": 5,
    "target_validation": 1,
    "target_test": 2,
}
FEW = dict.fromkeys(COUNTS, 1)
SPACING = 3.0
MYOCARDIUM, LEFT_ATRIUM, LEFT_VENTRICLE, AORTA = 1, 2, 3, 4
VOLUME_RANGES_ML = {MYOCARDIUM: (35, 220), LEFT_ATRIUM: (10, 110), LEFT_VENTRICLE: (20, 180), AORTA: (8, 90)}


def run(output: Path, *options: str, spacing: float = SPACING, **counts: int) -> subprocess.CompletedProcess[str]:
    """Runs the script from a foreign working folder; without `counts` with one subject a list and one process."""
    options = (*options, f"--spacing={spacing}", f"--workers={2 if counts else 1}")
    words = [f"--{name}={value}" for name, value in (FEW | counts).items()]
    return run_python([str(SCRIPT), str(output), *words, *options], output.parent, check=False)


def volumes(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every NIfTI file below a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.nii.gz"))}


def stored_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Returns the paths of image and label of every subject."""
    labels = {path.name: path for path in folder.glob("*labels/*.nii.gz")}
    return [(path, labels[path.name]) for path in sorted(folder.glob("*_images/*.nii.gz"))]


def load(path: Path) -> nib.Nifti1Image:
    """Returns a NIfTI file as stored."""
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


def pairs(folder: Path, modality: str = "") -> list[tuple[nib.Nifti1Image, nib.Nifti1Image]]:
    """Returns image and label of every subject, of `mr` or `ct` or both, with axes to the right, front and top."""
    found = [pair for pair in stored_pairs(folder) if pair[0].name.startswith(modality)]
    return [(nib.as_closest_canonical(load(image)), nib.as_closest_canonical(load(label))) for image, label in found]


def values(image: nib.Nifti1Image) -> npt.NDArray[Any]:
    """Returns the voxels as stored."""
    return np.asanyarray(image.dataobj)


def centroid(label: nib.Nifti1Image, value: int) -> npt.NDArray[np.float64]:
    """Returns the center of a structure in patient coordinates: mm to the right, front and top."""
    return nib.affines.apply_affine(label.affine, np.argwhere(values(label) == value).mean(axis=0))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of fifteen subjects, as the script writes it."""
    output = tmp_path_factory.mktemp("phantom") / "heart"
    result = run(output, **COUNTS)
    assert result.returncode == 0, result.stderr
    return output


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same seed as `phantom`, one subject in every list, one process."""
    output = tmp_path_factory.mktemp("few") / "heart"
    result = run(output)
    assert result.returncode == 0, result.stderr
    return output


def test_the_description_names_the_task_as_the_design_does(phantom: Path) -> None:
    dataset = read_json(phantom / "dataset.json")
    assert set(dataset) == {"name", "slice_plane", "labels", "source", "target"}
    assert "generated" in dataset["name"].lower()
    assert dataset["slice_plane"] == "coronal"
    assert dataset["labels"] == {
        "0": "background",
        "1": "left ventricle myocardium",
        "2": "left atrium blood cavity",
        "3": "left ventricle blood cavity",
        "4": "ascending aorta",
    }
    assert dataset["source"]["modality"] == "MR"
    assert dataset["target"]["modality"] == "CT"


def test_every_list_is_as_long_as_asked_and_only_target_training_has_no_labels(phantom: Path) -> None:
    dataset = read_json(phantom / "dataset.json")
    for option, count in COUNTS.items():
        domain, split = option.split("_")
        items = dataset[domain][split]
        assert len(items) == count
        assert all(set(item) == {"image"} | ({"label"} if option != "target_training" else set()) for item in items)


def test_the_upper_bound_trains_on_labels_of_the_same_target_subjects(phantom: Path) -> None:
    dataset, supervised = (read_json(phantom / name) for name in ("dataset.json", "supervised.json"))
    images = [item["image"] for item in supervised["source"]["training"]]
    assert images == [item["image"] for item in dataset["target"]["training"]]
    assert all(item["label"].startswith("ct_training_labels/") for item in supervised["source"]["training"])
    assert supervised["source"]["modality"] == supervised["target"]["modality"] == "CT"
    assert "validation" not in supervised["source"]
    assert "training" not in supervised["target"]
    assert supervised["target"]["test"] == dataset["target"]["test"]


def test_the_bundle_reads_what_was_written(phantom: Path) -> None:
    assert len(read_dataset(phantom / "dataset.json").target_training) == COUNTS["target_training"]
    supervised = read_dataset(phantom / "supervised.json", needs_target=False)
    assert len(supervised.source_training) == COUNTS["target_training"]


def test_nothing_but_the_data_set_is_left_in_the_folder(phantom: Path) -> None:
    folders = {"mr_images", "mr_labels", "ct_images", "ct_labels", "ct_training_labels"}
    assert {path.name for path in phantom.iterdir()} == folders | {"dataset.json", "supervised.json"}
    assert len(list(phantom.rglob("*.nii.gz"))) == 2 * sum(COUNTS.values())
    assert not list(phantom.rglob(".*"))


def test_image_and_label_share_grid_and_header_and_have_plain_types(phantom: Path) -> None:
    for image_path, label_path in stored_pairs(phantom):
        image, label = load(image_path), load(label_path)
        assert image.shape == label.shape
        assert np.array_equal(image.affine, label.affine)
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        for volume in (image, label):
            assert volume.header.get_xyzt_units()[0] == "mm"
            assert volume.header["sform_code"] > 0
            assert volume.header["qform_code"] > 0
            assert np.allclose(volume.get_qform(), volume.get_sform(), atol=1e-3)


def test_storage_orientation_spacing_and_tilt_vary_between_subjects(phantom: Path) -> None:
    affines = [load(image).affine for image, _ in stored_pairs(phantom)]
    assert len({nib.aff2axcodes(affine) for affine in affines}) >= 4
    assert len({tuple(nib.affines.voxel_sizes(affine).round(3)) for affine in affines}) == len(affines)
    tilts = [np.rad2deg(nib.affines.obliquity(affine).max()) for affine in affines]
    assert min(tilts) < 0.01
    assert 0.5 < max(tilts) < 6


def test_spacing_scatters_around_the_one_asked_for_and_the_slices_are_coronal(phantom: Path) -> None:
    for image, _ in pairs(phantom):
        across, between, along = image.header.get_zooms()
        assert across == pytest.approx(along)
        assert 0.89 * SPACING < across < 1.11 * SPACING
        assert 0.99 < between / across < 1.61
        extent = np.array(image.shape) * image.header.get_zooms()
        assert np.all(np.abs(extent - (150, 96, 150)) < 14)


def test_the_heart_lies_in_the_patient_as_anatomy_has_it_whatever_the_storage(phantom: Path) -> None:
    for image_path, label_path in stored_pairs(phantom):
        label = load(label_path)  # as stored: the affine alone must tell
        right, front, top = range(3)
        ventricle, atrium, aorta = (centroid(label, value) for value in (LEFT_VENTRICLE, LEFT_ATRIUM, AORTA))
        assert ventricle[right] < aorta[right], image_path
        assert ventricle[right] < atrium[right], image_path
        assert aorta[top] > ventricle[top] + 10, image_path
        assert aorta[top] > atrium[top], image_path
        assert atrium[front] < ventricle[front] - 10, image_path
        assert atrium[front] < aorta[front], image_path


def test_the_right_heart_lies_to_the_right_of_the_left_ventricle(phantom: Path) -> None:
    for image, label in pairs(phantom, "ct"):
        is_wall = values(label) == MYOCARDIUM
        _, front, top = np.argwhere(values(label) == LEFT_VENTRICLE).mean(axis=0).round().astype(int)
        rightmost = np.flatnonzero(is_wall[:, front, top]).max()
        neighbors = values(image)[rightmost + 2 : rightmost + 9, front, top]  # 20 mm: blood with or without contrast
        assert np.median(neighbors) > 30


def test_the_four_structures_have_the_size_of_organs(phantom: Path) -> None:
    for _, label in pairs(phantom):
        voxel_ml = np.prod(label.header.get_zooms()) / 1000
        assert set(np.unique(values(label))) == {0, *VOLUME_RANGES_ML}
        for value, (smallest, largest) in VOLUME_RANGES_ML.items():
            assert smallest < np.sum(values(label) == value) * voxel_ml < largest


def test_myocardium_wraps_the_left_ventricle(phantom: Path) -> None:
    for _, label in pairs(phantom):
        padded = np.pad(values(label), 1)
        is_cavity = padded == LEFT_VENTRICLE
        shifted = [np.roll(is_cavity, step, axis) for axis in range(3) for step in (-1, 1)]
        rim = padded[np.any(shifted, axis=0) & ~is_cavity]
        assert np.mean(rim == MYOCARDIUM) > 0.6  # the rest is the base


def test_ct_is_in_hounsfield_units(phantom: Path) -> None:
    for image, label in pairs(phantom, "ct"):
        assert values(image).min() >= -1024
        assert values(image).max() <= 1500
        assert np.percentile(values(image), 5) < -500  # lung
        for value in (LEFT_ATRIUM, LEFT_VENTRICLE, AORTA):
            assert 150 < np.median(values(image)[values(label) == value]) < 500
        assert 50 < np.median(values(image)[values(label) == MYOCARDIUM]) < 180


def test_mr_is_in_arbitrary_units_without_negative_values(phantom: Path) -> None:
    found = pairs(phantom, "mr")
    medians = []
    for image, label in found:
        assert values(image).min() >= 0
        blood, wall = (np.median(values(image)[values(label) == value]) for value in (LEFT_VENTRICLE, MYOCARDIUM))
        assert blood > 1.2 * wall
        medians.append(blood)
    assert max(medians) > 1.3 * min(medians)


def test_no_two_subjects_are_alike(phantom: Path) -> None:
    labels = [values(load(label)) for _, label in stored_pairs(phantom)]
    assert len({label.tobytes() for label in labels}) == sum(COUNTS.values())


def test_the_same_seed_gives_the_same_files_however_many_subjects_and_processes(phantom: Path, few: Path) -> None:
    many, single = volumes(phantom), volumes(few)
    assert single.keys() < many.keys()
    assert all(many[name] == content for name, content in single.items())


def test_another_seed_gives_other_images_and_labels(few: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "other", "--seed=1").returncode == 0
    first, other = volumes(few), volumes(tmp_path / "other")
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first)


def test_overwriting_replaces_the_data_set_and_keeps_other_files(few: Path, tmp_path: Path) -> None:
    output = tmp_path / "heart"
    shutil.copytree(few, output)
    (output / "notes.txt").write_text("mine", encoding="utf-8")
    assert run(output, "--overwrite", spacing=2.5).returncode == 0
    assert (output / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert "2.5 mm" in read_json(output / "dataset.json")["name"]
    for (_, coarse), (_, fine) in zip(pairs(few), pairs(output), strict=True):
        assert np.prod(fine.shape) > np.prod(coarse.shape)
        for value in VOLUME_RANGES_ML:  # a subject keeps its anatomy at another spacing
            assert np.linalg.norm(centroid(coarse, value) - centroid(fine, value)) < 2.5  # mm


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "heart"
    output.mkdir()
    (output / "notes.txt").write_text("mine", encoding="utf-8")
    assert_refused(run(output), str(output), "not empty", "--overwrite")
    assert [path.name for path in output.iterdir()] == ["notes.txt"]


def test_a_spacing_that_is_no_length_is_refused(tmp_path: Path) -> None:
    assert_refused(run(tmp_path / "heart", spacing=0), "--spacing is 0")


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--source_training=-1", "--source_training is -1"),
        ("--target_training=0", "--target_training is 0"),
        ("--seed=-3", "--seed is -3"),
        ("--sed=3", "--sed"),
    ],
)
def test_a_bad_option_is_refused_in_one_sentence_before_any_work(tmp_path: Path, option: str, named: str) -> None:
    assert_refused(run(tmp_path / "heart", option), named)
    assert not (tmp_path / "heart").exists()


def assert_refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Checks exit status 2 and one sentence on stderr that holds every part."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    for part in parts:
        assert part in lines[0]
