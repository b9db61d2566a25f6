"""scripts/prepare_mmwhs.py, run as a user does on a small folder laid out as the MM-WHS 2017 download."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
from builders import assert_refused, names, read_json
from conftest import run_script
from dataset_folder import check_same_grid, link_or_copy, pair_volumes, split_subjects
from sifa.data.dataset_json import read_dataset
from sifa.utils.errors import InputError

KNOWN_VALUES = (0, 205, 420, 500, 820, 550, 600, 850)
EXPECTED_CLASSES = {0: 0, 205: 1, 420: 2, 421: 2, 500: 3, 820: 4, 550: 0, 600: 0, 850: 0}
SHAPE = (4, 5, 6)
AFFINE = np.array([[0.0, -1.5, 0.0, 20.0], [0.0, 0.0, 2.0, -30.0], [-1.25, 0.0, 0.0, 40.0], [0.0, 0.0, 0.0, 1.0]])


class Prepared(NamedTuple):
    """A finished run: the download's folders, the folder written, and what was printed on stderr."""

    mr: Path
    ct: Path
    output: Path
    stderr: str


def make_volume(folder: Path, name: str, seed: int, extra: dict[tuple[int, int, int], float] | None = None) -> None:
    """Writes one image with its label of random known values; `extra` sets single label voxels."""
    generator = np.random.default_rng(seed)
    label = generator.choice(KNOWN_VALUES, size=SHAPE).astype(np.int16)
    for index, value in (extra or {}).items():
        label[index] = value
    folder.mkdir(parents=True, exist_ok=True)
    image = generator.integers(0, 500, size=SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(image, AFFINE), folder / f"{name}_image.nii.gz")
    nib.save(nib.Nifti1Image(label, AFFINE), folder / f"{name}_label.nii.gz")


def make_download(root: Path, count: int = 2) -> tuple[Path, Path]:
    """Writes `count` volumes of each modality and returns the MR and the CT folder."""
    for modality in ("mr", "ct"):
        for index in range(1, count + 1):
            make_volume(root / f"{modality}_train", f"{modality}_train_10{index:02d}", seed=index)
    return root / "mr_train", root / "ct_train"


def run(mr: Path, ct: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the script from a foreign working folder, as a user may."""
    folders = ["--mr", str(mr), "--ct", str(ct), "--output_dir", str(output)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(mr.parent)
        return run_script("prepare_mmwhs.py", *folders, *options, check=False)


def load(path: Path) -> nib.Nifti1Image:
    """Returns a NIfTI file."""
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Five volumes of each modality, one MR label with two voxels of 421, prepared with the defaults."""
    root = tmp_path_factory.mktemp("mmwhs")
    mr, ct = make_download(root, count=5)
    make_volume(mr, "mr_train_1003", seed=3, extra={(1, 2, 3): 421, (0, 0, 0): 421})
    result = run(mr, ct, root / "heart")
    assert result.returncode == 0, result.stderr
    return Prepared(mr, ct, root / "heart", result.stderr)


def test_every_voxel_of_every_label_holds_the_class_of_its_value(prepared: Prepared) -> None:
    written = sorted(prepared.output.glob("*_labels/*.nii.gz"))
    assert len(written) == 10
    for path in written:
        folder = prepared.mr if path.name.startswith("mr") else prepared.ct
        original = load(folder / path.name.replace(".nii.gz", "_label.nii.gz"))
        label = load(path)
        assert label.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(label.affine, original.affine)
        expected = np.vectorize(EXPECTED_CLASSES.__getitem__)(np.asanyarray(original.dataobj))
        np.testing.assert_array_equal(np.asanyarray(label.dataobj), expected)


def test_the_stray_421_becomes_left_atrium_and_one_line_says_so(prepared: Prepared) -> None:
    warnings = [line for line in prepared.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "mr_train_1003_label.nii.gz holds 2 voxel(s) of the stray value 421" in warnings[0]
    label = np.asanyarray(load(prepared.output / "mr_labels" / "mr_train_1003.nii.gz").dataobj)
    assert label[1, 2, 3] == label[0, 0, 0] == 2


def test_the_description_names_the_task_as_the_design_does(prepared: Prepared) -> None:
    dataset = read_json(prepared.output / "dataset.json")
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
    assert "validation" not in dataset["target"]


def test_one_subject_in_five_is_held_out_and_no_subject_is_in_two_lists(prepared: Prepared) -> None:
    dataset = read_json(prepared.output / "dataset.json")
    for domain, held_out, modality in (("source", "validation", "mr"), ("target", "test", "ct")):
        lists = names(dataset[domain]["training"]), names(dataset[domain][held_out])
        assert [len(subjects) for subjects in lists] == [4, 1]
        assert sorted(lists[0] + lists[1]) == [f"{modality}_train_100{index}" for index in range(1, 6)]


def test_no_label_of_a_target_training_subject_is_listed_for_adaptation(prepared: Prepared) -> None:
    dataset = read_json(prepared.output / "dataset.json")
    assert all(set(case) == {"image"} for case in dataset["target"]["training"])
    assert "ct_training_labels" not in json.dumps(dataset)
    assert names(dataset["target"]["test"]) == [
        path.name.removesuffix(".nii.gz") for path in (prepared.output / "ct_test_labels").iterdir()
    ]


def test_the_upper_bound_trains_on_labels_of_the_same_target_subjects(prepared: Prepared) -> None:
    dataset, supervised = (read_json(prepared.output / name) for name in ("dataset.json", "supervised.json"))
    assert supervised["source"]["modality"] == supervised["target"]["modality"] == "CT"
    assert names(supervised["source"]["training"]) == names(dataset["target"]["training"])
    assert all(case["label"].startswith("ct_training_labels/") for case in supervised["source"]["training"])
    assert "training" not in supervised["target"]
    assert supervised["target"]["test"] == dataset["target"]["test"]
    assert (supervised["labels"], supervised["slice_plane"]) == (dataset["labels"], dataset["slice_plane"])


def test_the_folder_stands_alone_with_images_that_are_hard_links(prepared: Prepared) -> None:
    for description in ("dataset.json", "supervised.json"):
        content = read_json(prepared.output / description)
        lists = [value for domain in ("source", "target") for value in content[domain].values()]
        for case in [case for cases in lists if isinstance(cases, list) for case in cases]:
            for path in case.values():
                assert not Path(path).is_absolute()
                assert (prepared.output / path).is_file()
                assert not (prepared.output / path).is_symlink()
    written = prepared.output / "mr_images" / "mr_train_1001.nii.gz"
    assert written.samefile(prepared.mr / "mr_train_1001_image.nii.gz")


def test_the_bundle_reads_what_was_written(prepared: Prepared) -> None:
    assert len(read_dataset(prepared.output / "dataset.json").target_test) == 1
    assert len(read_dataset(prepared.output / "supervised.json", needs_target=False).source_training) == 4


def test_a_label_a_hair_off_its_image_is_written_with_the_affine_of_the_image(tmp_path: Path) -> None:
    mr, ct = make_download(tmp_path)
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.05
    label = load(mr / "mr_train_1001_label.nii.gz")
    nib.save(nib.Nifti1Image(np.asanyarray(label.dataobj), shifted), mr / "mr_train_1001_label.nii.gz")
    result = run(mr, ct, tmp_path / "heart")
    assert result.returncode == 0, result.stderr
    written = load(tmp_path / "heart" / "mr_labels" / "mr_train_1001.nii.gz")
    np.testing.assert_array_equal(written.affine, load(mr / "mr_train_1001_image.nii.gz").affine)


def test_a_second_run_with_overwrite_writes_the_same_folder_and_leaves_nothing_temporary(prepared: Prepared) -> None:
    before = {name: (prepared.output / name).read_bytes() for name in ("dataset.json", "supervised.json")}
    files = sorted(prepared.output.rglob("*"))
    result = run(prepared.mr, prepared.ct, prepared.output, "--seed", "0", "--overwrite")
    assert result.returncode == 0, result.stderr
    assert {name: (prepared.output / name).read_bytes() for name in before} == before
    assert sorted(prepared.output.rglob("*")) == files


def test_the_split_of_twenty_subjects_is_16_to_4_and_changes_only_with_the_seed() -> None:
    subjects = [f"subject_{index}" for index in range(20)]
    training, held_out = split_subjects(subjects, 0.2, seed=0)
    assert (len(training), len(held_out)) == (16, 4)
    assert sorted(training + held_out) == sorted(subjects)
    assert split_subjects(subjects[::-1], 0.2, seed=0) == (training, held_out)
    assert split_subjects(subjects, 0.2, seed=1) != (training, held_out)


@pytest.mark.parametrize(("count", "fraction", "expected"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.25, 2), (10, 0.3, 3)])
def test_neither_side_of_a_split_is_ever_empty(count: int, fraction: float, expected: int) -> None:
    training, held_out = split_subjects([str(index) for index in range(count)], fraction, seed=0)
    assert (len(training), len(held_out)) == (count - expected, expected)


@pytest.mark.parametrize(
    ("subjects", "fraction", "seed"),
    [(["a"], 0.2, 0), (["a", "b"], 0.0, 0), (["a", "b"], 1.0, 0), (["a", "b"], "half", 0), (["a", "b"], 0.2, "x")],
)
def test_a_split_that_cannot_be_made_is_refused(subjects: list[str], fraction: Any, seed: Any) -> None:
    with pytest.raises(InputError):
        split_subjects(subjects, fraction, seed)


def test_an_image_is_copied_where_hard_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_to_link(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse_to_link)
    source, destination = tmp_path / "scan.nii.gz", tmp_path / "folder" / "scan.nii.gz"
    source.write_bytes(b"voxels")
    link_or_copy(source, destination)
    assert destination.read_bytes() == b"voxels"
    assert not destination.samefile(source)


def test_an_unknown_label_value_is_refused_by_file_and_value(tmp_path: Path) -> None:
    mr, ct = make_download(tmp_path)
    make_volume(ct, "ct_train_1002", seed=0, extra={(3, 4, 5): 777})
    result = run(mr, ct, tmp_path / "heart")
    assert_refused(result, "ct_train_1002_label.nii.gz", "777", "download the file again")
    assert not (tmp_path / "heart" / "dataset.json").exists()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path / "nowhere", tmp_path, tmp_path / "heart")
    assert_refused(result, str(tmp_path / "nowhere"), "is not a folder", "--mr")


def test_swapped_folders_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    mr, ct = make_download(tmp_path)
    result = run(ct, mr, tmp_path / "heart")
    assert_refused(result, f"{ct} holds no mr_train_*_image.nii.gz", "point --mr at")
    assert not (tmp_path / "heart").exists()


def test_an_image_without_label_is_refused(tmp_path: Path) -> None:
    mr, ct = make_download(tmp_path)
    (mr / "mr_train_1002_label.nii.gz").unlink()
    result = run(mr, ct, tmp_path / "heart")
    assert_refused(result, str(mr / "mr_train_1002_image.nii.gz"), "has no label")


def test_a_label_without_image_is_refused() -> None:
    with pytest.raises(InputError, match="has no image"):
        pair_volumes({}, {"b": Path("b_label.nii.gz")})


def test_a_label_of_another_shape_than_its_image_is_refused(tmp_path: Path) -> None:
    mr, ct = make_download(tmp_path)
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 7), np.int16), AFFINE), ct / "ct_train_1001_label.nii.gz")
    assert_refused(run(mr, ct, tmp_path / "heart"), "ct_train_1001_label.nii.gz", "(4, 5, 7)", "(4, 5, 6)")


def test_a_label_that_lies_elsewhere_than_its_image_is_refused(tmp_path: Path) -> None:
    make_volume(tmp_path, "scan", seed=0)
    shifted = AFFINE.copy()
    shifted[0, 3] += 3
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), shifted), tmp_path / "scan_label.nii.gz")
    with pytest.raises(InputError, match=r"scan_label.nii.gz and .* lie 3.00 mm apart"):
        check_same_grid(tmp_path / "scan_image.nii.gz", tmp_path / "scan_label.nii.gz")


def test_a_truncated_label_is_refused(tmp_path: Path) -> None:
    mr, ct = make_download(tmp_path)
    path = mr / "mr_train_1001_label.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    assert_refused(run(mr, ct, tmp_path / "heart"), "mr_train_1001_label.nii.gz", "replace the file")


def test_an_output_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    mr, ct = make_download(tmp_path)
    (tmp_path / "heart").mkdir()
    (tmp_path / "heart" / "notes.txt").write_text("mine", encoding="utf-8")
    result = run(mr, ct, tmp_path / "heart")
    assert_refused(result, str(tmp_path / "heart"), "not empty", "--overwrite")
    assert [path.name for path in (tmp_path / "heart").iterdir()] == ["notes.txt"]


def test_a_misspelled_option_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    mr, ct = make_download(tmp_path)
    assert_refused(run(mr, ct, tmp_path / "heart", "--validation_fration", "0.5"), "--validation_fration", "--help")
    assert not (tmp_path / "heart").exists()
