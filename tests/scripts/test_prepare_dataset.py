"""A data set of folders of scans: each layout in its real form, what is refused, and nothing that is overwritten."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from builders import (
    assert_refused,
    diagonal_affine,
    edit_dicom,
    names,
    read_json,
    refusal,
    stored_as,
    write_dataset,
    write_nifti,
)
from conftest import RECOMMENDED, TINY, run_bundle, run_script
from layouts import (
    SHAPE,
    SPACING,
    label,
    volume,
    write_bids,
    write_contours,
    write_decathlon,
    write_first_nnunet,
    write_folders,
    write_image,
    write_label,
    write_nnunet,
    write_patient,
)
from prepare_dataset import prepare_dataset
from sifa.data.dataset_json import DatasetDescription, read_dataset
from sifa.io.dicom_seg import write_dicom_seg
from sifa.io.grids import read_grid
from sifa.io.scan_reader import load_label

MR = [f"mr_{number}" for number in range(4)]
CT = [f"ct_{number}" for number in range(5)]


def prepare(folder: Path, **options: Any) -> DatasetDescription:
    """Prepares a data set in `folder / "data"` and reads it as training does."""
    prepare_dataset(output_dir=str(folder / "data"), **{name: as_text(value) for name, value in options.items()})
    return read_dataset(folder / "data" / "dataset.json")


def as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def refused(folder: Path, **options: Any) -> str:
    """Returns how a data set is refused; nothing may have been written."""
    message = refusal(lambda: prepare(folder, **options))
    assert not (folder / "data").exists()
    return message


def write_targets(folder: Path, cases: list[str] = CT) -> Path:
    """Writes unlabeled scans in one folder."""
    for case in cases:
        write_image(folder / f"{case}.nii.gz", case)
    return folder


def subjects(items: list[dict[str, str]], folder: str = "images") -> list[str]:
    """Returns the names of the images of some items."""
    return [name.removesuffix("_0000") for name in names(items)]


def digests(folder: Path) -> dict[Path, str]:
    """Returns a hash of every file below a folder."""
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Plain pairs of the source, `mr/images` and `mr/labels`, and unlabeled scans of the target, `ct`."""
    write_folders(tmp_path / "mr", MR)
    write_targets(tmp_path / "ct")
    return tmp_path


# --- layouts ---


def test_plain_pairs_are_referred_to_where_they_are(plain: Path) -> None:
    before = digests(plain)

    dataset = prepare(plain, source=plain / "mr", target=plain / "ct")

    assert dataset.source_training == [
        {"image": str(plain / f"mr/images/{case}.nii.gz"), "label": str(plain / f"mr/labels/{case}.nii.gz")}
        for case in MR
    ]
    assert dataset.target_training == [{"image": str(plain / f"ct/{case}.nii.gz")} for case in CT]
    assert (dataset.source_modality, dataset.target_modality) == ("MR", "CT")
    assert dataset.labels == {0: "background", 1: "label 1", 2: "label 2"}
    assert dataset.name == "mr to ct"
    assert [path.name for path in (plain / "data").iterdir()] == ["dataset.json"]
    assert {path: digests(plain)[path] for path in before} == before


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}.nii.gz", "{}_seg.nii.gz"),
        ("{}.nii.gz", "{}-label.nii"),
        ("{}_image.nii.gz", "{}_label.nii.gz"),
        ("img_{}.nii.gz", "mask_{}.nii.gz"),
        ("volume-{}.nii", "segmentation-{}.nii"),
        ("{}/t1.nii.gz", "{}/mask.nii.gz"),
        ("{}/{}_T2.nii.gz", "{}/{}_T2_gt.nii.gz"),
    ],
)
def test_labels_beside_their_images_are_known_by_their_names(image: str, mask: str, tmp_path: Path) -> None:
    for case in MR:
        write_image(tmp_path / "mr" / image.format(case, case), case)
        write_label(tmp_path / "mr" / mask.format(case, case), case)

    dataset = prepare(tmp_path, source=tmp_path / "mr", target=write_targets(tmp_path / "ct"))

    assert len(dataset.source_training) == len(MR)
    for item in dataset.source_training:
        case = next(case for case in MR if case in item["image"])
        assert item["image"].endswith(image.format(case, case))
        assert item["label"].endswith(mask.format(case, case))


def test_labels_in_another_folder_are_given_by_an_option(tmp_path: Path) -> None:
    for case in MR:
        write_image(tmp_path / "scans" / f"{case}.nii.gz", case)
        write_label(tmp_path / "drawn" / f"{case}_mask.nii.gz", case)
    for case in CT[:2]:
        write_label(tmp_path / "ct_drawn" / f"{case}.nii.gz", case)

    dataset = prepare(
        tmp_path,
        source=tmp_path / "scans",
        source_labels=tmp_path / "drawn",
        target=write_targets(tmp_path / "ct"),
        target_labels=tmp_path / "ct_drawn",
    )

    assert [Path(item["label"]).name for item in dataset.source_training] == [f"{case}_mask.nii.gz" for case in MR]
    assert subjects(dataset.target_test) == CT[:2]  # where some are labeled, all of these are tested on
    assert subjects(dataset.target_training) == CT[2:]
    assert not (tmp_path / "data" / "supervised.json").exists()


def test_labels_of_the_target_can_be_ignored(tmp_path: Path) -> None:
    source = write_folders(tmp_path / "mr", MR)
    target = write_nnunet(tmp_path / "ct", CT, {"background": 0, "tumor": 1, "cyst": 2}, {"0": "CT"})

    dataset = prepare(tmp_path, source=source, target=target, target_labels="none")

    assert subjects(dataset.target_training) == CT
    assert dataset.target_test == []


def test_nnunet_gives_names_channels_and_its_own_test_scans(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "mr", MR, {"background": 0, "liver": 1, "spleen": 2}, {"0": "T1"})
    labels = {"background": 0, "spleen": 1, "stomach": 2, "liver": 3}
    target = write_nnunet(tmp_path / "ct", CT, labels, {"0": "CT"}, ["ct_8", "ct_9"], labeled_tests=True)

    dataset = prepare(tmp_path, source=source, target=target)

    assert dataset.labels == {0: "background", 1: "liver", 2: "spleen"}
    assert (dataset.source_modality, dataset.target_modality) == ("T1", "CT")
    assert subjects(dataset.source_training) == MR
    assert subjects(dataset.target_test) == ["ct_8", "ct_9"]
    assert subjects(dataset.target_training) == CT
    assert dataset.source_label_map == {0: 0, 1: 1, 2: 2}
    assert dataset.target_label_map == {0: 0, 1: 2, 2: 0, 3: 1}  # stomach is no structure of the source
    assert dataset.label_values == {0: 0, 1: 3, 2: 1}


def test_a_target_of_nnunet_needs_no_labels_but_a_source_does(tmp_path: Path) -> None:
    labels = {"background": 0, "liver": 1, "spleen": 2}
    source = write_nnunet(tmp_path / "mr", MR, labels, {"0": "MRI"})
    target = write_nnunet(tmp_path / "ct", CT, labels, {"0": "CT"}, ["ct_8"], labeled_tests=True)
    shutil.rmtree(target / "labelsTr")
    dataset = prepare(tmp_path, source=source, target=target)
    assert subjects(dataset.target_training) == CT
    assert subjects(dataset.target_test) == ["ct_8"]
    shutil.rmtree(source / "labelsTr")
    assert "label" in refused(tmp_path / "again", source=source, target=target)


def test_nnunet_with_several_channels_needs_one_of_them(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "mr", MR, {"background": 0, "liver": 1, "spleen": 2}, {"0": "T1", "1": "T2"})
    target = write_targets(tmp_path / "ct")

    message = refused(tmp_path, source=source, target=target)
    assert str(source / "dataset.json") in message
    assert "0 (T1), 1 (T2)" in message
    assert "--channel" in message
    assert "0 (T1), 1 (T2)" in refused(tmp_path, source=source, target=target, channel="FLAIR")

    dataset = prepare(tmp_path, source=source, target=target, channel="t2")

    assert [Path(item["image"]).name for item in dataset.source_training] == [f"{case}_0001.nii.gz" for case in MR]
    assert dataset.source_modality == "T2"


def test_nnunet_without_its_json_or_with_files_anywhere_is_read(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "mr", MR, {"background": 0, "liver": 1, "spleen": 2}, {"0": "MRI"})
    target = write_targets(tmp_path / "ct")
    content = read_json(source / "dataset.json")
    (source / "dataset.json").unlink()

    assert subjects(prepare(tmp_path, source=source, target=target).source_training) == MR

    (source / "imagesTr").rename(source / "scans")
    content["dataset"] = {
        case: {"images": [f"scans/{case}_0000.nii.gz"], "label": f"labelsTr/{case}.nii.gz"} for case in MR[:3]
    }
    (source / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    dataset = prepare(tmp_path, source=source, target=target, overwrite=True)
    assert subjects(dataset.source_training) == MR[:3]


def test_the_first_version_of_nnunet_and_the_decathlon_are_told_apart(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "Left Atrium", "2": "Aorta"}
    source = write_first_nnunet(tmp_path / "mr", MR, labels)
    target = write_decathlon(tmp_path / "ct", CT, ["ct_8", "ct_9"], labels, {"0": "CT"})

    dataset = prepare(tmp_path, source=source, target=target, test_fraction=0.4, seed=3)

    assert dataset.labels == {0: "background", 1: "Left Atrium", 2: "Aorta"}
    assert subjects(dataset.source_training) == MR
    assert len(dataset.target_test) == 2
    assert {"ct_8", "ct_9"} < set(subjects(dataset.target_training))  # unlabeled, so they are adapted to
    assert sorted(subjects(dataset.target_test + dataset.target_training)) == [*CT, "ct_8", "ct_9"]


def test_a_channel_of_the_decathlons_fourth_axis_is_written_as_a_scan_of_its_own(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "PZ", "2": "TZ"}
    source = write_decathlon(tmp_path / "Task05", MR, [], labels, {"0": "T2", "1": "ADC"})
    target = write_targets(tmp_path / "ct")

    assert "0 (T2), 1 (ADC)" in refused(tmp_path, source=source, target=target)
    dataset = prepare(tmp_path, source=source, target=target, channel="ADC")

    assert [item["image"] for item in dataset.source_training] == [
        str(tmp_path / "data" / "source_images" / f"{case}.nii.gz") for case in MR
    ]
    for case, item in zip(MR, dataset.source_training, strict=True):
        image: Any = nib.load(item["image"])
        assert np.array_equal(image.get_fdata(), volume(f"{case}1"))
        assert np.allclose(image.affine, diagonal_affine(SPACING))


def test_bids_pairs_labels_of_derivatives_and_keeps_the_sessions_of_a_subject_together(tmp_path: Path) -> None:
    source = write_bids(tmp_path / "mr", ["01", "02", "03", "04"], ["T1w"], ["a", "b"])
    target = write_targets(tmp_path / "ct")

    dataset = prepare(tmp_path, source=source, target=target, source_validation_fraction=0.25)

    assert dataset.source_modality == "T1W"
    assert dataset.labels == {0: "background", 1: "left part", 2: "right part"}
    held_out = {name.split("_")[0] for name in names(dataset.source_validation)}
    trained = {name.split("_")[0] for name in names(dataset.source_training)}
    assert (len(dataset.source_validation), len(held_out), held_out & trained) == (2, 1, set())
    for item in (*dataset.source_training, *dataset.source_validation):
        stem = Path(item["image"]).name.removesuffix("_T1w.nii.gz")
        assert Path(item["label"]).name == f"{stem}_space-orig_desc-manual_dseg.nii.gz"


def test_bids_with_several_kinds_of_scans_needs_one_and_with_several_labels_a_folder(tmp_path: Path) -> None:
    source = write_bids(tmp_path / "mr", ["01", "02"], ["T1w", "T2w"])
    target = write_targets(tmp_path / "ct")

    assert "0 (T1w), 1 (T2w)" in refused(tmp_path, source=source, target=target)
    shutil.copytree(source / "derivatives" / "manual", source / "derivatives" / "automatic")
    message = refused(tmp_path, source=source, target=target, channel="T2w")
    assert "several labels" in message
    assert "--source_labels" in message

    dataset = prepare(
        tmp_path, source=source, target=target, channel="T2w", source_labels=source / "derivatives" / "manual"
    )

    assert [Path(item["image"]).name for item in dataset.source_training] == ["sub-01_T2w.nii.gz", "sub-02_T2w.nii.gz"]


def dicom_labels(folder: Path, kind: str) -> Path:
    """Writes MR series of three patients, and labels of a kind, each in the patient's folder."""
    for number, name in enumerate(MR[:3]):
        series = write_patient(folder / name / "series", name, "MR")
        affine = read_grid(series).affine
        if kind == "seg":
            files = sorted(series.iterdir())
            (folder / name / "labels").mkdir()
            path = folder / name / "labels" / "seg.dcm"
            write_dicom_seg(label(name), affine, files, {1: "Liver", 2: "Spleen"}, path, "hand", "1")
        elif kind == "rtstruct":
            boxes = {index: np.argwhere(label(name) == index) for index in (1, 2)}
            structures = {
                structure: [(float(z) * SPACING[2], corners(boxes[index])) for z in np.unique(boxes[index][:, 2])]
                for index, structure in ((1, "Liver"), (2, "Spleen"))
            }
            body = [(z * SPACING[2], [(0.0, 0.0), (13.0, 0.0), (13.0, 11.0), (0.0, 11.0)]) for z in range(SHAPE[2])]
            reference = series if number else None  # the first one refers to nothing
            write_contours(folder / name / "rs.dcm", reference, {"BODY": body, **structures})
        else:
            turned, turned_affine = stored_as(label(name), affine, "LAS")  # as dcm2niix stores it
            write_nifti(folder / name / "mask.nii.gz", turned.astype(np.uint8), turned_affine)
    return folder


def corners(box: np.ndarray) -> list[tuple[float, float]]:
    """Returns the corners of a box of voxels in mm, half a voxel around the outermost centers."""
    (left, front), (right, back) = box[:, :2].min(axis=0) - 0.5, box[:, :2].max(axis=0) + 0.5
    points = [(left, front), (right, front), (right, back), (left, back)]
    return [(float(x) * SPACING[0], float(y) * SPACING[1]) for x, y in points]


@pytest.mark.parametrize("kind", ["seg", "rtstruct", "nifti"])
def test_dicom_series_get_labels_on_their_grid_whatever_holds_these(kind: str, tmp_path: Path) -> None:
    if kind == "seg":
        pytest.importorskip("highdicom", reason="highdicom writes the DICOM SEG of this test")
    source = dicom_labels(tmp_path / "mr", kind)
    for case in CT:
        write_patient(tmp_path / "ct" / case, case)
    label_map = {"rtstruct": "liver:Liver,spleen:Spleen,*:0", "nifti": "1:Liver,2:Spleen"}.get(kind)

    dataset = prepare(tmp_path, source=source, target=tmp_path / "ct", label_map=label_map)

    assert dataset.labels == {0: "background", 1: "Liver", 2: "Spleen"}
    assert (dataset.source_modality, dataset.target_modality) == ("MR", "CT")
    assert [item["image"] for item in dataset.target_training] == [str(tmp_path / "ct" / case) for case in CT]
    for case, item in zip(MR, dataset.source_training, strict=False):
        assert item["image"] == str(source / case / "series")
        assert item["label"] == str(tmp_path / "data" / "source_labels" / f"{case}_series.nii.gz")
        voxels, affine = load_label(item["label"])
        assert np.array_equal(voxels, label(case))
        assert np.allclose(affine, read_grid(source / case / "series").affine)


def test_structures_that_overlap_and_names_that_are_not_there_are_refused(tmp_path: Path) -> None:
    source = dicom_labels(tmp_path / "mr", "rtstruct")
    target = write_targets(tmp_path / "ct")

    assert "overlap" in refused(tmp_path, source=source, target=target)
    message = refused(tmp_path, source=source, target=target, label_map="lever:1,spleen:2")
    assert "--label_map maps lever" in message
    assert "BODY, Liver, Spleen" in message
    assert "the structure BODY, which has no class" in refused(
        tmp_path, source=source, target=target, label_map="liver:1,spleen:2"
    )


def test_a_folder_with_two_series_is_refused_and_mixed_modalities_ask_for_one(tmp_path: Path) -> None:
    source = dicom_labels(tmp_path / "mr", "nifti")
    target = tmp_path / "ct"
    for case in CT[:2]:
        write_patient(target / case / "ct", case)
        write_patient(target / case / "mr", f"mr of {case}", "MR")

    assert "--target_modality" in refused(tmp_path, source=source, target=target)
    dataset = prepare(tmp_path, source=source, target=target, target_modality="CT")
    assert [Path(item["image"]).name for item in dataset.target_training] == ["ct", "ct"]
    for file in (target / CT[0] / "mr").iterdir():
        file.rename(target / CT[0] / "ct" / f"other_{file.name}")
    shutil.rmtree(tmp_path / "data")
    message = refused(tmp_path, source=source, target=target, target_modality="CT")
    assert message.startswith(f"{target / CT[0] / 'ct'}: it holds 2 series")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_other_formats_of_files_are_pairs_as_well(ending: str, plain: Path) -> None:
    for path in (plain / "mr").rglob("*.nii.gz"):
        itk.imwrite(itk.imread(str(path)), str(path).replace(".nii.gz", ending))
        path.unlink()

    dataset = prepare(plain, source=plain / "mr", target=plain / "ct")

    assert [Path(item["label"]).name for item in dataset.source_training] == [f"{case}{ending}" for case in MR]


def test_a_label_of_masks_along_a_fourth_axis_is_converted(plain: Path) -> None:
    for case in MR:
        found = label(case)
        masks = [found == index for index in ((0, 1, 2) if case == MR[0] else (1, 2))]  # with background, and without
        stack = np.stack(masks, axis=-1).astype(np.uint8)
        write_nifti(plain / "mr" / "labels" / f"{case}.nii.gz", stack, diagonal_affine(SPACING))

    dataset = prepare(plain, source=plain / "mr", target=plain / "ct")

    for case, item in zip(MR, dataset.source_training, strict=True):
        assert item["label"] == str(plain / "data" / "source_labels" / f"{case}.nii.gz")
        assert np.array_equal(load_label(item["label"])[0], label(case))


def test_a_label_in_another_orientation_is_turned_to_that_of_its_image(plain: Path) -> None:
    turned, affine = stored_as(label(MR[1]), diagonal_affine(SPACING), "PLI")
    write_nifti(plain / "mr" / "labels" / f"{MR[1]}.nii.gz", turned, affine)

    dataset = prepare(plain, source=plain / "mr", target=plain / "ct")

    converted = [item["label"] for item in dataset.source_training if str(plain / "data") in item["label"]]
    assert converted == [str(plain / "data" / "source_labels" / f"{MR[1]}.nii.gz")]
    assert np.array_equal(load_label(converted[0])[0], label(MR[1]))


# --- values and classes ---


@pytest.mark.parametrize(
    ("label_map", "names_of_classes"),
    [
        (None, ["label 205", "label 420"]),
        ("205:1,420:2", ["label 205", "label 420"]),
        ("205:myocardium,420:left atrium", ["myocardium", "left atrium"]),
        ("420:left atrium,205:myocardium,0:background", ["left atrium", "myocardium"]),
    ],
)
def test_values_need_not_be_consecutive(label_map: str | None, names_of_classes: list[str], tmp_path: Path) -> None:
    source = write_folders(tmp_path / "mr", MR, (0, 205, 420))
    target = write_folders(tmp_path / "ct", CT, (0, 205, 420))

    dataset = prepare(tmp_path, source=source, target=target, label_map=label_map)

    assert dataset.labels == dict(enumerate(["background", *names_of_classes]))
    order = [420, 205] if names_of_classes[0] == "left atrium" else [205, 420]
    assert dataset.source_label_map == dataset.target_label_map == {0: 0, order[0]: 1, order[1]: 2}
    assert dataset.label_values == {0: 0, 1: order[0], 2: order[1]}
    supervised = read_dataset(tmp_path / "data" / "supervised.json", needs_target=False)
    assert supervised.source_label_map == dataset.target_label_map


def test_values_of_both_domains_may_differ_and_several_may_be_one_class(tmp_path: Path) -> None:
    source = write_folders(tmp_path / "mr", MR, (0, 63, 126, 189))
    target = write_folders(tmp_path / "ct", CT, (0, 6, 2, 9))

    dataset = prepare(
        tmp_path,
        source=source,
        target=target,
        label_map="63:liver,126:kidney,189:kidney",
        target_label_map="6:liver,2:kidney,*:0",
    )

    assert dataset.labels == {0: "background", 1: "liver", 2: "kidney"}
    assert dataset.source_label_map == {0: 0, 63: 1, 126: 2, 189: 2}
    assert dataset.target_label_map == {0: 0, 9: 0, 6: 1, 2: 2}
    assert dataset.label_values == {0: 0, 1: 6, 2: 2}


@pytest.mark.parametrize(
    ("label_map", "words"),
    [
        ("1:liver", "it holds the value 2, which has no class"),
        ("1:liver,2:3", "names some classes and numbers others"),
        ("1:1,2:3", "without gaps"),
        ("1:liver,2", "write what labels hold and its class"),
        ("1:liver,1:spleen", "maps 1 twice"),
        ("1:liver,*:spleen", "the rest can only be the background"),
        ("1:liver,2:spleen,-7:spleen", "structures have the values 1 to"),
        ("1:background,2:background", "no class but the background"),
        ("liver:1,spleen:2", "--label_map maps liver"),
    ],
)
def test_a_wrong_label_map_is_refused(label_map: str, words: str, plain: Path) -> None:
    assert words in refused(plain, source=plain / "mr", target=plain / "ct", label_map=label_map)


def test_a_structure_that_the_target_does_not_name_asks_for_its_map(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "mr", MR, {"background": 0, "liver": 1, "left kidney": 2}, {"0": "MRI"})
    target = write_nnunet(tmp_path / "ct", CT, {"background": 0, "kidney_left": 1, "liver": 2}, {"0": "CT"})

    message = refused(tmp_path, source=source, target=target)

    assert "nothing in the labels of the target is left kidney" in message
    assert "1 (kidney_left), 2 (liver)" in message
    assert "--target_label_map" in message


# --- splits, plane, copies ---


def test_subjects_are_split_by_shares_and_a_seed(tmp_path: Path) -> None:
    source = write_folders(tmp_path / "mr", MR)
    target = write_folders(tmp_path / "ct", [f"ct_{number}" for number in range(10)])
    options: Mapping[str, Any] = {
        "source": source, "target": target, "overwrite": True, "validation_fraction": 0.2, "test_fraction": 0.3,
    }  # fmt: skip

    first, again, other = (prepare(tmp_path, seed=seed, **options) for seed in (0, 0, 1))

    assert first == again
    assert [len(first.target_training), len(first.target_validation), len(first.target_test)] == [5, 2, 3]
    assert first.target_test != other.target_test
    supervised = read_dataset(tmp_path / "data" / "supervised.json", needs_target=False)
    assert names(supervised.source_training) == names(other.target_training)
    assert supervised.target_test == other.target_test
    assert supervised.source_modality == "CT"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_fraction": 1}, "is left to adapt to"),
        ({"test_fraction": 0.7, "validation_fraction": 0.6}, "need more than the 5 labeled subjects"),
        ({"source_validation_fraction": 1}, "is left to train on"),
        ({"test_fraction": 2}, "--test_fraction is 2"),
        ({"seed": "x"}, "--seed is 'x'"),
        ({"slice_plane": "across"}, "--slice_plane across"),
        ({"source_modality": "photo"}, "--source_modality"),
    ],
)
def test_shares_and_names_that_cannot_be_are_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    source, target = write_folders(tmp_path / "mr", MR), write_folders(tmp_path / "ct", CT)

    assert words in refused(tmp_path, source=source, target=target, **options)


@pytest.mark.parametrize(
    ("spacing", "axcodes", "plane"),
    [
        ((1, 1, 5), "RAS", "axial"),
        ((1, 5, 1), "RAS", "coronal"),
        ((5, 1, 1), "RAS", "sagittal"),
        ((1, 1, 5), "ASL", "sagittal"),
        ((1, 1, 1.2), "RAS", "axial"),
    ],
)
def test_the_plane_is_never_across_the_coarse_axis(
    spacing: tuple[float, ...], axcodes: str, plane: str, tmp_path: Path
) -> None:
    turn = nib.orientations.axcodes2ornt(tuple(axcodes))
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (place, sign) in enumerate(turn):
        affine[int(place), axis] = sign * spacing[axis]
    for case in MR:
        write_nifti(tmp_path / "mr" / f"{case}.nii.gz", volume(case), affine)
        write_nifti(tmp_path / "mr" / f"{case}_seg.nii.gz", label(case), affine)
    for case in CT:
        write_nifti(tmp_path / "ct" / f"{case}.nii.gz", volume(case), np.eye(4))

    assert prepare(tmp_path, source=tmp_path / "mr", target=tmp_path / "ct").slice_plane == plane


def test_domains_that_were_acquired_in_different_planes_are_cut_as_acquired(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in CT:
        write_image(plain / "ct" / f"{case}.nii.gz", case, diagonal_affine((6, 1, 1)))

    dataset = prepare(plain, source=plain / "mr", target=plain / "ct")
    assert dataset.slice_plane == "acquired"
    assert "axial ones in 0 % of the source and 100 % of the target" in capsys.readouterr().out

    dataset = prepare(plain, source=plain / "mr", target=plain / "ct", slice_plane="axial", overwrite=True)
    assert dataset.slice_plane == "axial"


def test_a_copy_needs_none_of_the_original_files(tmp_path: Path) -> None:
    source = dicom_labels(tmp_path / "mr", "nifti")
    target = write_folders(tmp_path / "ct", CT)
    for case in CT[:2]:  # a header and its voxels
        path = target / "images" / f"{case}.nii.gz"
        itk.imwrite(itk.imread(str(path)), str(target / "images" / f"{case}.mhd"))
        path.unlink()

    prepare(tmp_path, source=source, target=target, copy=True)
    shutil.rmtree(source)
    shutil.rmtree(target)
    (tmp_path / "data").rename(tmp_path / "moved")

    dataset = read_dataset(tmp_path / "moved" / "dataset.json")
    read_dataset(tmp_path / "moved" / "supervised.json", needs_target=False)
    assert len(dataset.source_training) == 3
    assert len(dataset.target_training) == 4


# --- what is refused ---


def test_scans_that_do_not_belong_are_named_before_anything_is_written(plain: Path) -> None:
    options = {"source": plain / "mr", "target": plain / "ct"}
    image, mask = plain / "mr" / "images" / f"{MR[0]}.nii.gz", plain / "mr" / "labels" / f"{MR[0]}.nii.gz"
    scan = plain / "ct" / f"{CT[0]}.nii.gz"
    kept = {path: path.read_bytes() for path in (image, mask, scan)}

    def restored(message: str, path: Path) -> str:
        for file, content in kept.items():
            file.write_bytes(content)
        assert str(path) in message
        return message

    mask.unlink()
    assert "has no label" in restored(refused(plain, **options), image)
    image.unlink()
    assert "no image" in restored(refused(plain, **options), mask)
    write_nifti(mask, label(MR[0], shape=(10, 12, 5)), diagonal_affine(SPACING))
    assert "its shape" in restored(refused(plain, **options), mask)
    write_nifti(mask, label(MR[0]), diagonal_affine(SPACING, (-30.0, 20.4, 100.0)))
    assert "voxels away" in restored(refused(plain, **options), mask)
    write_nifti(mask, label(MR[0]) * 0.3, diagonal_affine(SPACING))
    assert "not whole" in restored(refused(plain, **options), mask)
    image.write_bytes(kept[image][:300])
    assert "cannot be read" in restored(refused(plain, **options), image)
    write_nifti(scan, volume("ct") + 1024, diagonal_affine(SPACING))
    assert "--target_modality" in restored(refused(plain, **options), scan)
    scan.write_bytes((plain / "ct" / f"{CT[1]}.nii.gz").read_bytes())
    assert "the same scan as" in restored(refused(plain, **options), scan)
    write_nifti(scan, np.stack([volume("ct"), volume("ct_b")], axis=-1), diagonal_affine(SPACING))
    assert "4 dimensions" in restored(refused(plain, **options), scan)
    assert "--source_labels" in refused(plain, source=plain / "ct", target=plain / "mr")


def test_a_data_set_is_only_replaced_when_that_is_wanted(plain: Path) -> None:
    options = {"source": plain / "mr", "target": plain / "ct"}
    prepare(plain, **options)
    before = digests(plain)

    message = refusal(lambda: prepare(plain, **options))

    assert str(plain / "data" / "dataset.json") in message
    assert "--overwrite" in message
    assert digests(plain) == before
    prepare(plain, **options, name="another", overwrite=True)
    assert read_json(plain / "data" / "dataset.json")["name"] == "another"
    (plain / "data" / "supervised.json").write_text("{}", encoding="utf-8")  # of an earlier data set with other scans
    prepare(plain, **options, overwrite=True)
    assert not (plain / "data" / "supervised.json").exists()


def test_nothing_is_written_among_the_scans_or_over_another_layout(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "mr", MR, {"background": 0, "liver": 1, "spleen": 2}, {"0": "MRI"})
    target = write_targets(tmp_path / "ct")
    other = write_nnunet(tmp_path / "other", CT[:1], {"background": 0, "liver": 1}, {"0": "CT"})
    before = digests(tmp_path)

    for output in (source, source / "imagesTr", other):
        options: dict[str, Any] = {"source": str(source), "target": str(target), "output_dir": str(output)}
        message = refusal(partial(prepare_dataset, overwrite=True, **options))
        assert str(output) in message
        assert "--output_dir" in message
    own = write_folders(tmp_path / "source_images", MR)
    message = refusal(
        lambda: prepare_dataset(
            source=str(own), target=str(target), output_dir=str(tmp_path), copy=True, overwrite=True
        )
    )
    assert "among the scans" in message
    assert {path: digests(tmp_path)[path] for path in before} == before


# --- the command line ---


def test_the_command_line_names_what_is_missing_and_shows_examples(plain: Path) -> None:
    arguments = ["--source", str(plain / "mr"), "--target", str(plain / "ct"), "--output_dir", str(plain / "data")]

    assert_refused(run_script("prepare_dataset.py", *arguments[:4], check=False), "--output_dir", "--help")
    assert_refused(run_script("prepare_dataset.py", *arguments, "--copy", "false", check=False), "--copy false")
    assert_refused(
        run_script("prepare_dataset.py", "--source", str(plain / "none"), *arguments[2:], check=False),
        str(plain / "none"),
    )
    helped = run_script("prepare_dataset.py", "--help").stdout
    assert "python scripts/prepare_dataset.py --source MR --target CT" in helped
    result = run_script("prepare_dataset.py", *arguments, "--label_map", "1:myocardium,2:left atrium")
    assert result.stderr == ""
    assert "1 myocardium (1), 2 left atrium (2)" in result.stdout
    assert "slice plane: axial (its pixels are the finest;" in result.stdout


def test_training_on_another_layout_names_the_command_that_prepares_it(tmp_path: Path) -> None:
    labels = {"background": 0, "liver": 1, "spleen": 2}
    mr = write_nnunet(tmp_path / "a b", MR, labels, {"0": "MRI"})
    ct = write_nnunet(tmp_path / "ct", CT, labels, {"0": "CT"})
    decathlon = write_decathlon(tmp_path / "task", MR, [], {"0": "background", "1": "a", "2": "b"}, {"0": "MRI"})
    plain = write_folders(tmp_path / "plain", MR)
    patients = write_patient(tmp_path / "patients" / "one", "ct_1").parent

    for folder, command in (
        (mr, f"python scripts/prepare_dataset.py --source '{mr}' --target CT --output_dir DATA"),
        (ct, f"python scripts/prepare_dataset.py --source MR --target {ct} --output_dir DATA"),
        (decathlon, f"python scripts/prepare_dataset.py --source {decathlon} --target CT --output_dir DATA"),
        (plain, f"python scripts/prepare_dataset.py --source {plain} --target CT --output_dir DATA"),
        (patients, f"python scripts/prepare_dataset.py --source {patients} --target CT --output_dir DATA"),
    ):
        assert command in refusal(partial(read_dataset, folder / "dataset.json"))
    (tmp_path / "empty").mkdir()
    assert "prepare_dataset" not in refusal(lambda: read_dataset(tmp_path / "empty" / "dataset.json"))
    result = run_bundle("training", ["train.yaml"], check=False, dataset_dir=mr, output_dir=tmp_path / "run", epochs=1)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"--source '{mr}'" in errors[0]


TRAINING = {**TINY, "epochs": 1, "iterations_per_epoch": 1, "slice_size": "[16,16]"}


@pytest.mark.slow
def test_values_of_labels_change_nothing_but_the_values_of_masks(tmp_path: Path) -> None:
    """nnU-Net's folders with the values 205 and 420, and plain folders of the same scans with 1 and 2."""
    pytest.importorskip("highdicom", reason="highdicom writes the DICOM SEG of this test")
    labels = {"background": 0, "myocardium": 205, "left atrium": 420}
    write_nnunet(tmp_path / "valued" / "mr", MR, labels, {"0": "MRI"})
    write_nnunet(tmp_path / "valued" / "ct", CT, labels, {"0": "CT"})
    write_folders(tmp_path / "plain" / "mr", MR)
    write_folders(tmp_path / "plain" / "ct", CT)
    scans = tmp_path / "scans"
    write_image(scans / "scan.nii.gz", CT[0])
    write_patient(scans / "patient", CT[1])
    for kind, label_map in (("valued", []), ("plain", ["--label_map", "1:myocardium,2:left atrium"])):
        folder = tmp_path / kind
        data, run = folder / "data", folder / "run"
        arguments = ["--source", str(folder / "mr"), "--target", str(folder / "ct"), "--output_dir", str(data)]
        run_script("prepare_dataset.py", *arguments, "--validation_fraction", "0.2", *label_map)
        run_bundle("training", RECOMMENDED, dataset_dir=data, output_dir=run, **TRAINING)
        show_everything(run)
        measuring = ["train.yaml", "evaluate.yaml"]
        run_bundle("evaluating", measuring, dataset_dir=data, model_dir=run, output_dir=run / "eval")
        options: dict[str, Any] = {"model_dir": run, "output_dir": folder / "masks", "dicom_seg": True}
        run_bundle("inference", ["inference.yaml"], dataset_dir=scans, **options)

    valued, plain = (read_json(tmp_path / kind / "run" / "fingerprint.json") for kind in ("valued", "plain"))
    assert valued.pop("label_values") == {"0": 0, "1": 205, "2": 420}
    assert (valued.pop("format"), plain.pop("format")) == (3, 2)
    assert {**valued, "name": ""} == {**plain, "name": "", "source": {**plain["source"], "modality": "MRI"}}
    for name in ("run/scalars.csv", "run/validation.csv", "run/eval/results.csv"):
        found, expected = ((tmp_path / kind / name).read_text(encoding="utf-8") for kind in ("valued", "plain"))
        assert without_times(found) == without_times(expected)
    for name in ("scan_seg.nii.gz", "patient_seg.nii.gz"):
        image: Any = nib.load(tmp_path / "valued" / "masks" / name)
        other: Any = nib.load(tmp_path / "plain" / "masks" / name)
        classes = np.asarray(other.dataobj)
        assert image.get_data_dtype() == np.int16
        assert other.get_data_dtype() == np.uint8
        assert set(np.unique(classes).tolist()) == {1, 2}
        assert np.array_equal(np.asarray(image.dataobj), np.array([0, 205, 420])[classes])
    manifests = [read_json(tmp_path / kind / "masks" / "manifest.json")["cases"] for kind in ("valued", "plain")]
    for case, same in zip(*manifests, strict=True):
        assert case["volumes_ml"] == same["volumes_ml"]
        assert set(case["volumes_ml"]) == {"myocardium", "left atrium"}
    segments = pydicom.dcmread(tmp_path / "valued" / "masks" / "patient_seg.dcm").SegmentSequence
    assert [(segment.SegmentLabel, segment.SegmentDescription) for segment in segments] == [
        ("myocardium", "label value 205"), ("left atrium", "label value 420"),
    ]  # fmt: skip


def without_times(table: str) -> list[list[str]]:
    """Returns the cells of a table without columns of seconds and file names."""
    rows = [line.split(",") for line in table.splitlines()]
    kept = [index for index, name in enumerate(rows[0]) if not re.search("second|time|volume", name)]
    return [[row[index] for index in kept if index < len(row)] for row in rows]


def show_everything(run: Path) -> None:
    """Changes the last layer of a network so that its masks show both structures everywhere, and no background."""
    weights = torch.load(run / "model.pt", weights_only=True)
    bias = [name for name in weights if name.endswith("bias") and weights[name].numel() == 3][-1]
    weights[bias] = torch.tensor([-1e3, 0.0, 0.0])
    torch.save(weights, run / "model.pt")
    content = read_json(run / "fingerprint.json")
    content["spatial_prior"] = {}
    (run / "fingerprint.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.slow
def test_dicom_series_with_contours_are_trained_on(tmp_path: Path) -> None:
    source = dicom_labels(tmp_path / "mr", "rtstruct")
    for case in CT:
        write_patient(tmp_path / "ct" / case, case)
    data, run = tmp_path / "data", tmp_path / "run"
    arguments = ["--source", str(source), "--target", str(tmp_path / "ct"), "--output_dir", str(data)]
    run_script("prepare_dataset.py", *arguments, "--label_map", "liver:liver,spleen:spleen,*:0")

    run_bundle("training", RECOMMENDED, dataset_dir=data, output_dir=run, **TRAINING)

    assert (run / "model.pt").is_file()
    assert set(read_json(run / "fingerprint.json")["structures"]) == {"liver", "spleen"}


# --- checking ---


def test_a_good_data_set_is_described_and_has_no_problem(tmp_path: Path) -> None:
    write_dataset(tmp_path)

    result = run_script("prepare_dataset.py", "--check", str(tmp_path))

    assert "No problem found." in result.stdout
    for place, scans in (("source.training", 2), ("target.training", 2), ("target.test", 1)):
        line = next(line for line in result.stdout.splitlines() if place in line)
        assert f" {scans} " in line
        assert ("left" in line) == (place != "target.training")


def test_everything_that_is_wrong_is_listed_and_ends_with_status_1(tmp_path: Path) -> None:
    content = write_dataset(tmp_path)
    mr, ct = (tmp_path / "images" / f"{name}.nii.gz" for name in ("mr_1", "ct_1"))
    affine = diagonal_affine((1.5, 1.0, 2.0))
    image: Any = nib.load(ct)
    write_nifti(ct, np.asarray(image.dataobj) + 1200, affine)
    shutil.copy(tmp_path / "images" / "ct_2.nii.gz", tmp_path / "images" / "copy.nii")
    (tmp_path / "images" / "copy.nii").rename(tmp_path / "images" / "copy.nii.gz")
    content["target"]["test"][0]["image"] = "images/copy.nii.gz"
    write_nifti(tmp_path / "labels" / "mr_1.nii.gz", np.full((6, 7, 5), 9, np.uint8), affine)
    write_nifti(tmp_path / "labels" / "mr_2.nii.gz", np.zeros((6, 7, 4), np.uint8), affine)
    (tmp_path / "labels" / "mr_3.nii.gz").unlink()
    for name, place in (("sub-01_T1w", "training"), ("sub-01_T2w", "validation")):
        path = tmp_path / "bids" / "sub-01" / "anat" / f"{name}.nii.gz"
        write_nifti(path, volume(f"mr {name}", (6, 7, 5)).astype(np.float32), affine)
        mask = write_nifti(tmp_path / "labels" / f"{name}.nii.gz", label(name, shape=(6, 7, 5)), affine)
        content["source"][place].append({"image": str(path), "label": str(mask)})
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")

    result = run_script("prepare_dataset.py", "--check", str(tmp_path), check=False)

    assert result.returncode == 1
    problems = [line for line in result.stdout.splitlines() if line.startswith("wrong: ")]
    assert "6 problems found." in result.stdout
    assert len(problems) == 6
    for file, words in (
        (ct, "not HU"),
        (tmp_path / "images" / "copy.nii.gz", "the same scan as"),
        (tmp_path / "labels" / "mr_1.nii.gz", "the value 9"),
        (tmp_path / "labels" / "mr_2.nii.gz", "its shape"),
        (tmp_path / "labels" / "mr_3.nii.gz", "does not exist"),
        (tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T2w.nii.gz", "the same subject"),
    ):
        assert any(str(file) in problem and words in problem for problem in problems), (file, problems)
    assert mr.is_file()


def test_series_of_one_study_in_two_lists_are_found(tmp_path: Path) -> None:
    source = dicom_labels(tmp_path / "mr", "nifti")
    target = tmp_path / "ct"
    for case in CT[:3]:
        write_patient(target / case, case)
    prepare(tmp_path, source=source, target=target)
    content = read_json(tmp_path / "data" / "dataset.json")
    second = write_patient(tmp_path / "second", "ct_7")
    study = pydicom.dcmread(next(iter((target / CT[0]).iterdir()))).StudyInstanceUID
    edit_dicom(sorted(second.iterdir()), lambda dicom, _: setattr(dicom, "StudyInstanceUID", study))
    mask = write_nifti(tmp_path / "second.nii.gz", label("ct_7").astype(np.uint8), read_grid(second).affine)
    content["target"]["test"] = [{"image": str(second), "label": str(mask)}]
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(content), encoding="utf-8")

    result = run_script("prepare_dataset.py", "--check", str(tmp_path / "data"), check=False)

    assert result.returncode == 1
    assert f"{second} (target.test): it is of the same subject as {target / CT[0]} (target.training)" in result.stdout


def test_a_folder_without_a_data_set_and_other_options_beside_check_are_refused(tmp_path: Path) -> None:
    absent = run_script("prepare_dataset.py", "--check", str(tmp_path), check=False)
    assert (absent.returncode, "there is no such file" in absent.stdout) == (1, True)
    assert_refused(run_script("prepare_dataset.py", "--check", check=False), "--check DATA")
    assert_refused(
        run_script("prepare_dataset.py", "--check", str(tmp_path), "--source", str(tmp_path), check=False),
        "no other option",
    )
