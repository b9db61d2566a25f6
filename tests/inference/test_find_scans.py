"""Which files and folders count as scans, which do not, and what their masks are called."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from builders import edit_dicom, mixed_into, put, refusal, write_dicom_series, write_nifti
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom.uid import UID, EncapsulatedPDFStorage, MRImageStorage, RTStructureSetStorage, SecondaryCaptureImageStorage
from sifa.inference.find_scans import find_scans
from sifa.io.dicom_geometry import read_series
from sifa.io.dicom_headers import read_slices

VOLUME = np.zeros((4, 4, 2), np.int16)
NOBODY = 65534


def found(root: Path, output: Path | None = None) -> dict[str, str]:
    """Returns the scans below `root` with their masks, both relative to their folders."""
    output = output or root.parent / "masks"
    return {
        str(Path(item["image"]).relative_to(root)): str(Path(item["mask"]).relative_to(output))
        for item in find_scans(root, output)
    }


def test_nifti_files_are_found_at_any_depth_whatever_the_case_of_their_ending(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii", "deep/er/c.nii.gz", "deep/D.NII.GZ", "deep/e.Nii"):
        put(tmp_path / "scans" / name)

    assert found(tmp_path / "scans") == {
        "a.nii": "a_seg.nii.gz",
        "b.nii.gz": "b_seg.nii.gz",
        "deep/D.NII.GZ": "deep/D_seg.nii.gz",
        "deep/e.Nii": "deep/e_seg.nii.gz",
        "deep/er/c.nii.gz": "deep/er/c_seg.nii.gz",
    }


def test_scans_are_sorted_and_given_by_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.nii", "c/a.nii", "a.nii"):
        put(tmp_path / "scans" / name)
    monkeypatch.chdir(tmp_path)

    assert find_scans("scans", "masks") == [
        {"image": str(tmp_path / "scans" / name), "mask": str(tmp_path / "masks" / mask)}
        for name, mask in (("a.nii", "a_seg.nii.gz"), ("b.nii", "b_seg.nii.gz"), ("c/a.nii", "c/a_seg.nii.gz"))
    ]


@pytest.mark.parametrize("ending", [".dcm", "", ".IMA"])
def test_a_dicom_series_is_a_folder_whatever_its_files_are_called(tmp_path: Path, ending: str) -> None:
    write_dicom_series(tmp_path / "scans" / "patient" / "study" / "series", VOLUME, ending=ending)

    assert found(tmp_path / "scans") == {"patient/study/series": "patient/study/series_seg.nii.gz"}


def test_the_folder_given_may_itself_be_a_dicom_series(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "series", VOLUME)

    assert find_scans(tmp_path / "series", tmp_path / "masks") == [
        {
            "image": str(tmp_path / "series"),
            "mask": str(tmp_path / "masks" / "series_seg.nii.gz"),
            "files": [str(tmp_path / "series" / f"slice_{index:03d}.dcm") for index in range(2)],
        }
    ]


def test_dicom_series_and_nifti_files_may_share_a_folder(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "scans" / "series", VOLUME)
    put(tmp_path / "scans" / "series" / "scan.nii.gz")

    assert found(tmp_path / "scans") == {
        "series": "series_seg.nii.gz",
        "series/scan.nii.gz": "series/scan_seg.nii.gz",
    }


def test_series_of_the_same_name_of_two_patients_get_masks_of_their_own(tmp_path: Path) -> None:
    for patient in ("anna", "bert"):
        write_dicom_series(tmp_path / "scans" / patient / "CT", VOLUME)
        put(tmp_path / "scans" / patient / "scan.nii.gz")

    assert found(tmp_path / "scans") == {
        "anna/CT": "anna/CT_seg.nii.gz",
        "anna/scan.nii.gz": "anna/scan_seg.nii.gz",
        "bert/CT": "bert/CT_seg.nii.gz",
        "bert/scan.nii.gz": "bert/scan_seg.nii.gz",
    }


def test_scans_side_by_side_whose_names_differ_only_by_their_endings_get_distinct_masks(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz", "x.nii.gz", "alone.nii.gz"):
        put(tmp_path / "scans" / name)
    write_dicom_series(tmp_path / "scans" / "x", VOLUME)

    masks = found(tmp_path / "scans")

    assert set(masks) == {"a.nii", "a.nii.gz", "alone.nii.gz", "x", "x.nii.gz"}
    assert len(set(masks.values())) == 5
    assert all(mask.endswith("_seg.nii.gz") for mask in masks.values())
    assert masks["alone.nii.gz"] == "alone_seg.nii.gz"


def test_masks_and_labels_and_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    put(scans / "scan.nii.gz")
    for name in (
        "scan_seg.nii.gz",
        "labels/final/scan.nii.gz",
        "patient/datastore_v2.json",
        "patient/labels/scan.nii.gz",
        ".scan.nii.gz",
        ".1234.scan_seg.nii.gz",
        ".cache/scan.nii.gz",
        "notes.txt",
        "picture.png",
        "scan.nii.gz.json",
        "nii",
    ):
        put(scans / name)
    write_dicom_series(scans / "labels" / "segmentation", VOLUME)
    write_dicom_series(scans / ".hidden", VOLUME)

    assert set(found(scans)) == {"scan.nii.gz"}


def test_names_that_only_resemble_what_is_left_out_are_kept(tmp_path: Path) -> None:
    names = {"lead_segment.nii.gz", "mylabels/a.nii", "seg.nii.gz", "labels/a.nii", "b/labels/final/c.nii"}
    for name in names:
        put(tmp_path / "scans" / name)

    assert set(found(tmp_path / "scans")) == names


def test_what_lies_in_the_output_folder_is_no_scan(tmp_path: Path) -> None:
    scans, output = tmp_path / "scans", tmp_path / "scans" / "deep" / "output"
    for name in ("a.nii", "deep/b.nii", "deep/output/c.nii", "deep/output/more/d.nii", "output/e.nii"):
        put(scans / name)

    assert set(found(scans, output)) == {"a.nii", "deep/b.nii", "output/e.nii"}


def test_masks_may_go_beside_their_scans_and_are_not_segmented_the_next_time(tmp_path: Path) -> None:
    put(tmp_path / "patient" / "scan.nii.gz")
    before = find_scans(tmp_path, tmp_path)
    put(Path(before[0]["mask"]))

    assert before[0]["mask"] == str(tmp_path / "patient" / "scan_seg.nii.gz")
    assert find_scans(tmp_path, tmp_path) == before


def test_a_single_file_is_a_scan(tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "scans" / "one.nii.gz", VOLUME)
    put(tmp_path / "scans" / "two.nii.gz")

    assert find_scans(file, tmp_path / "masks") == [
        {"image": str(file), "mask": str(tmp_path / "masks" / "one_seg.nii.gz")}
    ]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refusal(lambda: find_scans(tmp_path / "none", tmp_path / "masks"))


def test_a_folder_without_scans_is_named(tmp_path: Path) -> None:
    put(tmp_path / "scans" / "notes.txt", b"nothing here")
    put(tmp_path / "scans" / "old_seg.nii.gz")

    assert str(tmp_path / "scans") in refusal(lambda: find_scans(tmp_path / "scans", tmp_path / "masks"))


def test_dicom_is_told_by_the_bytes_of_a_file_and_not_by_its_name(tmp_path: Path) -> None:
    assert read_slices(put(tmp_path / "anything.txt", bytes(128) + b"DICM" + bytes(10)))
    assert not read_slices(put(tmp_path / "slice.dcm", b"DICM" + bytes(200)))
    assert not read_slices(put(tmp_path / "short.dcm", bytes(20)))
    assert not read_slices(put(tmp_path / "empty.dcm"))
    assert not read_slices(put(tmp_path / "text", b"\x08\x00 and then nothing that DICOM would hold"))


def changed(folder: Path, change: Callable[[pydicom.Dataset], Any]) -> Path:
    """Changes the header of each file of a series."""
    edit_dicom(sorted(folder.iterdir()), lambda dicom, _: change(dicom))
    return folder


def sort_of(sop_class: str, modality: str) -> Callable[[pydicom.Dataset], None]:
    """Returns a change that makes a slice an object of another kind, of a patient who must not be named."""

    def change(dicom: pydicom.Dataset) -> None:
        dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID = UID(sop_class)
        dicom.Modality, dicom.PatientName, dicom.PatientID, dicom.StudyDate = modality, "Doe^Jane", "4711", "20200102"

    return change


def uid_of(file: str) -> str:
    return str(pydicom.dcmread(file).SeriesInstanceUID)


def test_several_series_in_one_folder_are_told_apart_and_keep_their_names_when_another_comes(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    parts = [write_dicom_series(tmp_path / name, np.zeros((4, 4, 3 + len(name)), np.int16)) for name in ("a", "bb")]
    mixed_into(scans / "case", *parts)

    items = find_scans(scans, tmp_path / "masks")

    assert sorted(len(item["files"]) for item in items) == [4, 5]
    for item in items:
        assert item["image"] == str(scans / "case")
        assert len({uid_of(file) for file in item["files"]}) == 1
        code = hashlib.sha256(uid_of(item["files"][0]).encode()).hexdigest()[:8]
        assert item["mask"] == str(tmp_path / "masks" / f"case_{code}_seg.nii.gz")
    for file in write_dicom_series(tmp_path / "new", VOLUME).iterdir():
        file.rename(scans / "case" / f"new_{file.name}")
    again = find_scans(scans, tmp_path / "masks")
    assert len(again) == 3
    assert all(item in again for item in items)


def test_one_series_in_two_folders_is_two_scans(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "scans" / "a", np.zeros((4, 4, 6), np.int16))
    (tmp_path / "scans" / "b").mkdir()
    for file in sorted(series.iterdir())[3:]:
        file.rename(tmp_path / "scans" / "b" / file.name)

    items = find_scans(tmp_path / "scans", tmp_path / "masks")

    assert [(Path(item["image"]).name, len(item["files"])) for item in items] == [("a", 3), ("b", 3)]


def test_a_series_whose_slices_lie_in_two_folders_is_reported_and_a_copy_of_one_is_not(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "scans" / "whole", np.zeros((4, 4, 6), np.int16), (1.0, 1.0, 1.0))
    shutil.copytree(series, tmp_path / "scans" / "copy")
    assert not any("warnings" in item for item in find_scans(tmp_path / "scans", tmp_path / "masks"))
    shutil.rmtree(tmp_path / "scans" / "copy")
    (tmp_path / "scans" / "rest").mkdir()
    for file in sorted(series.iterdir())[3:]:
        file.rename(tmp_path / "scans" / "rest" / file.name)
    warnings = [item["warnings"] for item in find_scans(tmp_path / "scans", tmp_path / "masks")]
    assert [len(one) for one in warnings] == [1, 1]
    assert "other slices of its series are in whole" in warnings[0][0]


@pytest.mark.parametrize("ending", [".img", ".hdr", ".npy", ".mha", ".zip"])
def test_dicom_files_that_are_named_like_other_formats_are_one_series(ending: str, tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "scans" / "series", VOLUME, (1.0, 1.0, 1.0))
    for file in list(series.iterdir()):
        file.rename(file.with_suffix(ending))
    assert found(tmp_path / "scans") == {"series": "series_seg.nii.gz"}


def test_other_formats_and_halves_of_pairs_are_listed_as_skipped(tmp_path: Path) -> None:
    for name in ("a.mgz", "b.img", "c.hdr", "d.tar.gz", "e.npz"):
        put(tmp_path / "scans" / name, b"something")
    put(tmp_path / "scans" / "pair.hdr"), put(tmp_path / "scans" / "pair.img")
    put(tmp_path / "scans" / "f.nrrd"), put(tmp_path / "scans" / "g.MHA"), put(tmp_path / "scans" / "notes.txt")
    items = {Path(item["image"]).name: item.get("skipped") for item in find_scans(tmp_path / "scans", tmp_path / "out")}
    assert {name for name, reason in items.items() if reason is None} == {"pair.hdr", "f.nrrd", "g.MHA"}
    assert {name for name, reason in items.items() if reason} == {"a.mgz", "b.img", "c.hdr", "d.tar.gz", "e.npz"}


def test_a_single_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "scan.npy")
    assert refusal(lambda: find_scans(path, tmp_path / "masks")).startswith(f"{path}: it is not a NIfTI, NRRD or Meta")


def test_files_that_were_set_aside_are_no_scans(tmp_path: Path) -> None:
    put(tmp_path / "scans" / "a.nii.gz")
    series = write_dicom_series(tmp_path / "series", VOLUME, (1.0, 1.0, 1.0))
    shutil.copy(next(series.iterdir()), tmp_path / "scans" / "a_seg.dcm.outdated")
    shutil.copy(next(series.iterdir()), tmp_path / "scans" / "a_seg.dcm.outdated.2")
    assert list(found(tmp_path / "scans")) == ["a.nii.gz"]


def test_files_are_in_slice_order_whatever_their_names(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "scans", np.zeros((4, 4, 5), np.int16))
    for index, file in enumerate(sorted(series.iterdir())):
        file.rename(series / f"{(index * 2) % 5}.dcm")

    (item,) = find_scans(series, tmp_path / "masks")

    assert [Path(file).stem for file in item["files"]] == ["0", "2", "4", "1", "3"]


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.{}", "slice{}.IMA", "slice{}.dcm"])
def test_dicom_without_a_preamble_is_found(name: str, tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "scans" / "ct", VOLUME)
    for index, file in enumerate(sorted(series.iterdir())):
        content = file.read_bytes()[132:]
        file.unlink()
        (series / f"{name.format(index)}{'' if '{' in name else index}").write_bytes(content)

    (item,) = find_scans(tmp_path / "scans", tmp_path / "masks")

    assert len(item["files"]) == 2
    assert "skipped" not in item


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda dicom: setattr(dicom, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "a localizer"),
        (sort_of(SecondaryCaptureImageStorage, "OT"), "a secondary capture, not an original scan"),
        (sort_of(MRImageStorage, "MR"), "modality MR, not CT"),
        (sort_of(RTStructureSetStorage, "RTSTRUCT"), "SOP class RT Structure Set Storage, not CT Image Storage"),
        (sort_of(EncapsulatedPDFStorage, "DOC"), "SOP class Encapsulated PDF Storage, not CT Image Storage"),
        (sort_of("1.2.840.10008.5.1.4.1.1.66.4", "SEG"), "SOP class Segmentation Storage, not CT Image Storage"),
        (sort_of(MRImageStorage, "Doe^Jane"), "modality unknown, not CT"),
    ],
)
def test_what_is_no_original_ct_is_listed_with_the_reason_and_says_nothing_of_the_patient(
    change: Callable[[pydicom.Dataset], Any], reason: str, tmp_path: Path
) -> None:
    changed(write_dicom_series(tmp_path / "scans" / "series", VOLUME), change)

    (item,) = find_scans(tmp_path / "scans", tmp_path / "masks")

    assert item["skipped"] == reason
    assert item["image"] == str(tmp_path / "scans" / "series")
    assert item["mask"] == str(tmp_path / "masks" / "series_seg.nii.gz")


def test_a_single_slice_and_a_dicomdir_are_no_scans(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "scans" / "one", VOLUME[..., :1])
    directory = pydicom.Dataset()
    directory.file_meta = pydicom.dataset.FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.1.3.10")
    directory.FileSetID = "Doe"
    directory.preamble = bytes(128)
    pydicom.dcmwrite(tmp_path / "scans" / "DICOMDIR", directory, implicit_vr=False, little_endian=True)

    assert [item["skipped"] for item in find_scans(tmp_path / "scans", tmp_path / "masks")] == [
        "SOP class Media Storage Directory Storage, not CT Image Storage",
        "a single slice",
    ]


def test_what_is_skipped_does_not_change_the_name_of_the_only_scan_of_a_folder(tmp_path: Path) -> None:
    localizer = changed(
        write_dicom_series(tmp_path / "b", VOLUME),
        lambda dicom: setattr(dicom, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    )
    mixed_into(tmp_path / "scans" / "case", localizer, write_dicom_series(tmp_path / "a", VOLUME))

    first, second = find_scans(tmp_path / "scans", tmp_path / "masks")

    kept, skipped = (second, first) if "skipped" in first else (first, second)
    assert "skipped" not in kept
    assert kept["mask"] == str(tmp_path / "masks" / "case_seg.nii.gz")
    assert skipped["mask"] != kept["mask"]


def test_localizers_inside_a_series_are_set_apart_from_it(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "scans" / "ct", np.zeros((4, 4, 5), np.int16))
    first = sorted(series.iterdir())[0]
    dicom = pydicom.dcmread(first)
    dicom.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dicom.save_as(first)

    items = find_scans(tmp_path / "scans", tmp_path / "masks")

    assert sorted((len(item["files"]), item.get("skipped", "")) for item in items) == [(1, "a localizer"), (4, "")]


def test_text_named_like_dicom_is_passed_over_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "scans" / "README", b"08 00 text\n" * 50)
    put(tmp_path / "scans" / "1.2.3", b"text " * 50)
    put(tmp_path / "scans" / "broken.dcm", b"<html>not found</html>")
    write_dicom_series(tmp_path / "scans" / "ct", VOLUME)

    with caplog.at_level(logging.WARNING):
        assert set(found(tmp_path / "scans")) == {"ct"}

    assert "broken.dcm" in caplog.text


# --- Files that may have been slices of the series beside them --------------------------------------------------------


def cut(file: Path, element: bytes) -> Path:
    """Cuts a DICOM file short before an element, given by the bytes of its tag."""
    content = file.read_bytes()
    file.write_bytes(content[: content.index(element)])
    return file


SERIES_UID, POSITION, ROWS = b"\x20\x00\x0e\x00", b"\x20\x00\x32\x00", b"\x28\x00\x10\x00"
DOUBT = "{} beside it cannot be read as DICOM: the series may be incomplete, copy it again"


@pytest.mark.parametrize("element", [POSITION, ROWS])
@pytest.mark.parametrize("number", [1, 3])
def test_a_damaged_slice_that_names_its_series_is_one_of_its_files(number: int, element: bytes, tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "scans" / "ct", np.zeros((4, 4, 4), np.int16))
    files = sorted(series.iterdir())
    cut(files[number], element)

    (item,) = find_scans(tmp_path / "scans", tmp_path / "masks")

    assert sorted(item["files"]) == list(map(str, files))
    assert "warnings" not in item
    assert str(files[number]) in refusal(lambda: read_series(item["files"]))


def test_a_damaged_slice_that_names_no_series_is_an_item_and_every_series_beside_it_has_a_warning(
    tmp_path: Path,
) -> None:
    parts = [write_dicom_series(tmp_path / name, np.zeros((4, 4, 4), np.int16)) for name in "ab"]
    last = cut(mixed_into(tmp_path / "scans", *parts) / "003_0.dcm", SERIES_UID)

    items = find_scans(tmp_path / "scans", tmp_path / "masks")

    assert sorted(len(item["files"]) for item in items) == [1, 3, 4]
    for item in items:
        if len(item["files"]) == 1:
            assert item["files"] == [str(last)]
            assert not {"skipped", "warnings"} & set(item)
            assert str(last) in refusal(lambda: read_series([last]))
        else:
            assert item["warnings"] == [DOUBT.format("003_0.dcm")]
            assert read_series(item["files"]).warnings == []  # so the warning is all that tells


def test_a_slice_cut_within_the_uid_of_its_series_is_not_taken_for_another_series(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "scans" / "ct", np.zeros((4, 4, 4), np.int16))
    content = (series / "slice_003.dcm").read_bytes()
    (series / "slice_003.dcm").write_bytes(content[: content.index(SERIES_UID) + 20])

    whole, damaged = sorted(find_scans(tmp_path / "scans", tmp_path / "masks"), key=lambda item: -len(item["files"]))

    assert whole["warnings"] == [DOUBT.format("slice_003.dcm")]
    assert whole["mask"] == str(tmp_path / "masks" / "ct_seg.nii.gz")
    assert damaged["files"] == [str(series / "slice_003.dcm")]


def test_a_damaged_slice_of_a_series_without_a_uid_makes_that_series_fail(tmp_path: Path) -> None:
    series = changed(
        write_dicom_series(tmp_path / "scans" / "ct", np.zeros((4, 4, 4), np.int16)),
        lambda dicom: setattr(dicom, "SeriesInstanceUID", ""),
    )
    last = cut(series / "slice_003.dcm", ROWS)

    (item,) = find_scans(tmp_path / "scans", tmp_path / "masks")

    assert str(last) in refusal(lambda: read_series(item["files"]))


def test_a_damaged_slice_is_not_taken_for_what_is_skipped_and_names_no_series_either(tmp_path: Path) -> None:
    capture = sort_of(SecondaryCaptureImageStorage, "OT")

    def nameless(dicom: pydicom.Dataset) -> None:
        capture(dicom)
        dicom.SeriesInstanceUID = ""

    changed(write_dicom_series(tmp_path / "scans", VOLUME), nameless)
    series = write_dicom_series(tmp_path / "series", np.zeros((4, 4, 4), np.int16), ending=".ima")
    last = cut(series / "slice_003.ima", SERIES_UID)
    for file in series.iterdir():
        file.rename(tmp_path / "scans" / file.name)

    items = find_scans(tmp_path / "scans", tmp_path / "masks")

    assert sorted((len(item["files"]), "skipped" in item, "warnings" in item) for item in items) == [
        (1, False, False),
        (2, True, False),
        (3, False, True),
    ]
    assert [item["files"] for item in items if len(item["files"]) == 1] == [[str(tmp_path / "scans" / last.name)]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("slice_004.dcm", b""),
        ("slice_004.dcm", bytes(3000)),
        ("slice_004.DCM", b"<html>not found</html>"),
        ("slice_004.ima", b"not found"),
    ],
)
def test_a_series_has_a_warning_when_a_file_beside_it_is_only_named_like_a_slice(
    name: str, content: bytes, tmp_path: Path
) -> None:
    write_dicom_series(tmp_path / "scans" / "ct", np.zeros((4, 4, 4), np.int16))
    write_dicom_series(tmp_path / "scans" / "other", VOLUME)
    put(tmp_path / "scans" / "ct" / name, content)

    ct, other = find_scans(tmp_path / "scans", tmp_path / "masks")

    assert ct["warnings"] == [DOUBT.format(name)]
    assert len(ct["files"]) == 4
    assert "warnings" not in other


@pytest.mark.parametrize(
    ("ending", "name", "content", "lost"),
    [
        ("", "IM4", b"", True),
        ("", "IM4", bytes(500), True),
        ("", "IM4", b"\x08\x00\x05\x00", True),
        ("", "README", b"written by a viewer", False),
        ("", "1.2.3", b"", True),
        (".17", "1.2.840.1", b"", True),
        (".DAT", "4.dat", b"", True),
        (".dcm", "LOCK", b"", False),
        (".dcm", "4.txt", b"", False),
    ],
)
def test_other_names_tell_a_slice_only_beside_slices_named_alike_and_by_how_the_file_begins(
    ending: str, name: str, content: bytes, lost: bool, tmp_path: Path
) -> None:
    series = write_dicom_series(tmp_path / "ct", np.zeros((4, 4, 4), np.int16), ending=ending)
    put(series / name, content)

    (item,) = find_scans(series, tmp_path / "masks")

    assert item.get("warnings", []) == [DOUBT.format(name)] * lost


def test_several_files_that_may_have_been_slices_are_counted(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "ct", np.zeros((4, 4, 4), np.int16))
    put(series / "z.dcm")
    cut(series / "slice_003.dcm", SERIES_UID)
    (series / "gone.dcm").symlink_to(tmp_path / "nowhere.dcm")

    whole = max(find_scans(series, tmp_path / "masks"), key=lambda item: len(item["files"]))

    assert whole["warnings"] == [DOUBT.format("3 files (gone.dcm, ...)")]


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    put(tmp_path / "scans" / "a.nii")
    os.mkfifo(tmp_path / "scans" / "pipe")

    assert set(found(tmp_path / "scans")) == {"a.nii"}


def test_links_are_followed_and_loops_end_and_nothing_is_found_twice(tmp_path: Path) -> None:
    scans, store = tmp_path / "scans", tmp_path / "store"
    put(scans / "z" / "a.nii", b"a")
    put(store / "b.nii", b"b")
    write_dicom_series(store / "ct", VOLUME)
    (scans / "a_link_to_z").symlink_to(scans / "z")
    (scans / "z" / "up").symlink_to(scans)
    (scans / "again.nii").symlink_to(scans / "z" / "a.nii")
    (scans / "stored").symlink_to(store)
    (store / "back").symlink_to(store)

    assert found(scans) == {
        "stored/b.nii": "stored/b_seg.nii.gz",
        "stored/ct": "stored/ct_seg.nii.gz",
        "z/a.nii": "z/a_seg.nii.gz",
    }


def test_a_folder_of_links_to_hidden_files_is_a_series(tmp_path: Path) -> None:
    hidden = write_dicom_series(tmp_path / "scans" / ".store", VOLUME)
    (tmp_path / "scans" / "ct").mkdir()
    for index, file in enumerate(sorted(hidden.iterdir())):
        (tmp_path / "scans" / "ct" / f"{index}.dcm").symlink_to(file)

    assert found(tmp_path / "scans") == {"ct": "ct_seg.nii.gz"}


def test_a_link_into_the_output_folder_is_no_scan(tmp_path: Path) -> None:
    put(tmp_path / "scans" / "a.nii")
    put(tmp_path / "scans" / "masks" / "b.nii")
    (tmp_path / "scans" / "latest").symlink_to(tmp_path / "scans" / "masks")
    (tmp_path / "scans" / "last.nii").symlink_to(tmp_path / "scans" / "masks" / "b.nii")

    assert set(found(tmp_path / "scans", tmp_path / "scans" / "masks")) == {"a.nii"}


@pytest.mark.parametrize("name", ["manifest.json", "manifest.shard-0-of-2.json"])
def test_what_the_manifest_lists_as_output_is_no_scan(name: str, tmp_path: Path) -> None:
    put(tmp_path / "scan.nii.gz")
    put(tmp_path / "deep" / "mask.nii.gz")
    (series,) = write_dicom_series(tmp_path / "made", VOLUME[..., :1]).iterdir()
    series.rename(tmp_path / "deep" / "scan_seg.dcm")
    cases = [
        {"input": "failed.nii.gz", "output": None},
        {"input": "scan.nii.gz", "output": "deep/mask.nii.gz", "dicom_seg": "deep/scan_seg.dcm"},
    ]
    (tmp_path / name).write_text(json.dumps({"cases": cases}), encoding="utf-8")

    assert set(found(tmp_path, tmp_path)) == {"scan.nii.gz"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cases": 3}', '{"cases": ["a"]}', '{"cases": [{"output": 1}]}'])
def test_a_manifest_of_another_kind_lists_nothing(content: str, tmp_path: Path) -> None:
    put(tmp_path / "scan.nii.gz")
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")

    assert set(found(tmp_path, tmp_path)) == {"scan.nii.gz"}


@contextmanager
def closed(*paths: Path) -> Iterator[None]:
    """Closes files and folders to this process: it gives up root's privileges, which open everything."""
    for path in paths:
        path.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o700)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_file_that_cannot_be_opened_is_an_item_and_leaves_the_others_their_names(open_folder: Path) -> None:
    series = write_dicom_series(open_folder / "scans" / "ct", np.zeros((4, 4, 4), np.int16))
    forbidden, notes = series / "slice_003.dcm", put(series / "notes.txt")

    with closed(forbidden, notes):
        items = find_scans(open_folder / "scans", open_folder / "masks")

    assert [item["files"] for item in items if len(item["files"]) == 1] == [[str(forbidden)]]
    assert [Path(item["mask"]).name for item in items if len(item["files"]) == 3] == ["ct_seg.nii.gz"]
    assert [item.get("warnings") for item in items if len(item["files"]) == 3] == [[DOUBT.format("slice_003.dcm")]]
    assert not any("skipped" in item for item in items)


def test_a_folder_that_cannot_be_listed_is_an_item(open_folder: Path) -> None:
    put(open_folder / "scans" / "a.nii")
    put(open_folder / "scans" / "closed" / "b.nii")

    with closed(open_folder / "scans" / "closed"):
        items = found(open_folder / "scans")

    assert items == {"a.nii": "a_seg.nii.gz", "closed": "closed_seg.nii.gz"}


def test_a_link_that_leads_nowhere_is_an_item_too(tmp_path: Path) -> None:
    put(tmp_path / "scans" / "a.nii")
    (tmp_path / "scans" / "gone.nii").symlink_to(tmp_path / "nowhere.nii")

    assert set(found(tmp_path / "scans")) == {"a.nii", "gone.nii"}


def test_masks_are_distinct_even_where_names_conspire(tmp_path: Path) -> None:
    names = ["a.nii", "a.nii.gz", "a.nii.nii", "a.nii.nii.gz", "a.nii.gz.nii"]
    for name in names:
        put(tmp_path / "scans" / name)
    write_dicom_series(tmp_path / "scans" / "a", VOLUME)

    masks = found(tmp_path / "scans")

    assert len(masks) == 6
    assert len(set(masks.values())) == 6
    assert masks["a"] == "a_seg.nii.gz"


STEMS = st.lists(st.sampled_from(["a", ".nii", "_2", "_seg", ".x", "B"]), min_size=1, max_size=4).map("".join)
NAMES = st.tuples(STEMS, st.sampled_from([".nii", ".nii.gz", ".NII.GZ"])).map("".join)
PATHS = st.tuples(st.sampled_from(["", "a/", "a.nii/"]), NAMES.filter(lambda name: not name.startswith("."))).map(
    "".join
)


@given(paths=st.sets(PATHS, min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_masks_are_distinct_whatever_scans_are_called(paths: set[str]) -> None:
    assume("a.nii" not in paths or not any(path.startswith("a.nii/") for path in paths))  # a file is no folder
    scans = {path for path in paths if not path.endswith("_seg.nii.gz")}
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            put(Path(folder) / "scans" / path)
        if not scans:
            return
        masks = found(Path(folder) / "scans")
        assert set(masks) == scans
        assert len(set(masks.values())) == len(masks)
        assert all(mask.endswith("_seg.nii.gz") for mask in masks.values())


def test_a_single_dicom_file_is_refused(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "ct", VOLUME)

    assert "the folder of its series" in refusal(lambda: find_scans(series / "slice_000.dcm", tmp_path / "masks"))


def test_each_header_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write_dicom_series(tmp_path / "scans" / name, VOLUME)
    shutil.copytree(tmp_path / "scans" / "a", tmp_path / "scans" / "c")
    read, dcmread = [], pydicom.dcmread

    def counted(file: Any, **options: Any) -> pydicom.Dataset:
        assert options["stop_before_pixels"]
        assert not {"PatientName", "PatientID", "StudyDate"} & set(options["specific_tags"])
        read.append(file.name)
        return dcmread(file, **options)

    monkeypatch.setattr(pydicom, "dcmread", counted)

    assert len(find_scans(tmp_path / "scans", tmp_path / "masks")) == 3
    assert len(read) == len(set(read)) == 6
