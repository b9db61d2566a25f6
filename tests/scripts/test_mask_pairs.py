"""Which mask belongs to which label, by their names."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import refusal
from mask_pairs import case_name, pair_masks


def touch(folder: Path, *names: str) -> Path:
    """Creates empty files; only their names matter here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("ct_01_seg.nii.gz", "ct_01"),
        ("ct_01.nii", "ct_01"),
        ("ct_01-Label.NRRD", "ct_01"),
        ("Segmentation.seg.nrrd", "Segmentation"),
        ("case.seg.nrrd", "case"),
        ("ct_train_1001_image_seg.nii.gz", "ct_train_1001"),
        ("a/b_pred.mha", "a/b"),
        ("mask.nii.gz", "mask"),
        ("_mask.nii.gz", "_mask"),
        ("ct_0001", "ct_0001"),
        ("bigmask.nii.gz", "bigmask"),
        ("2024.01.seg.mhd", "2024.01"),
    ],
)
def test_a_case_is_named_by_its_file_without_what_programs_add(name: str, case: str) -> None:
    assert case_name(name) == case


def test_masks_and_labels_of_other_formats_and_endings_are_paired_in_subfolders_too(tmp_path: Path) -> None:
    masks = touch(tmp_path / "m", "a_seg.nii.gz", "x/b_pred.nrrd", "c.mha", "c_uncertainty.nii.gz", ".d_seg.nii.gz")
    labels = touch(tmp_path / "l", "a_label.nii", "x/b.hdr", "x/b.img", "c_gt.nii.gz")

    found = pair_masks(masks, labels)

    assert [(pair.case, pair.mask.name, pair.label.name) for pair in found.pairs] == [
        ("a", "a_seg.nii.gz", "a_label.nii"),
        ("c", "c.mha", "c_gt.nii.gz"),
        ("x/b", "b_pred.nrrd", "b.hdr"),
    ]
    assert (found.refused, found.unused) == ({}, [])


def test_the_channel_in_nnunets_names_of_images_is_no_part_of_a_case(tmp_path: Path) -> None:
    masks = touch(tmp_path / "m", "a_0000_seg.nii.gz", "b_0000_seg.nii.gz")
    labels = touch(tmp_path / "l", "a.nii.gz", "b_0000.nii.gz")

    assert [(pair.case, pair.mask.name) for pair in pair_masks(masks, labels).pairs] == [
        ("a", "a_0000_seg.nii.gz"),
        ("b_0000", "b_0000_seg.nii.gz"),
    ]


def test_what_cannot_be_paired_is_named_and_does_not_stop_the_others(tmp_path: Path) -> None:
    masks = touch(tmp_path / "m", "a.nii.gz", "b_seg.nii.gz", "b_pred.nii.gz", "d.nii.gz", "e.nii.gz")
    labels = touch(tmp_path / "l", "a.nii.gz", "b.nii.gz", "c.nii.gz", "d_gt.nii.gz", "d_label.nrrd")

    found = pair_masks(masks, labels)

    assert [pair.case for pair in found.pairs] == ["a"]
    assert found.refused.keys() == {"b", "c", "d"}
    assert "b_pred.nii.gz, b_seg.nii.gz are masks for one label, b.nii.gz" in found.refused["b"]
    assert "no mask" in found.refused["c"]
    assert "d_gt.nii.gz, d_label.nrrd are labels of one case" in found.refused["d"]
    assert [path.name for path in found.unused] == ["e.nii.gz"]


def test_a_mask_with_and_one_without_the_channel_are_two_masks_for_one_label(tmp_path: Path) -> None:
    masks = touch(tmp_path / "m", "a.nii.gz", "a_0000_seg.nii.gz")

    assert "a" in pair_masks(masks, touch(tmp_path / "l", "a.nii.gz")).refused


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    folder = touch(tmp_path, "mine.nii.gz", "truth_07.nrrd")

    found = pair_masks(folder / "mine.nii.gz", folder / "truth_07.nrrd")

    assert [(pair.case, pair.mask.name) for pair in found.pairs] == [("truth_07", "mine.nii.gz")]


def test_folders_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    masks, labels = touch(tmp_path / "m", "img0001.nii.gz"), touch(tmp_path / "l", "label0001.nii.gz")
    empty = touch(tmp_path / "e", "notes.txt")

    for one, other, part in [
        (masks, labels, "img0001.nii.gz"),
        (masks, empty, "holds no NIfTI"),
        (empty, labels, "holds no NIfTI"),
        (masks, tmp_path / "nowhere", "nowhere"),
        (masks / "img0001.nii.gz", labels, "one is a file"),
        (empty / "notes.txt", labels / "label0001.nii.gz", "notes.txt"),
        (masks, masks, "masks and as labels"),
    ]:
        assert part in refusal(lambda one=one, other=other: pair_masks(one, other))  # type: ignore[misc]
