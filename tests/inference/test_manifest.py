"""The manifest: valid at any moment, honest about what is still current, and what makes a long run safe to stop."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from builders import diagonal_affine, read_json, refusal, write_dicom_series, write_nifti
from conftest import BUNDLE, as_flags, run_bundle
from hostile import DICOM_SPACING, SPACING, ct
from sifa.inference import manifest_file
from sifa.inference.case import Case, count_statuses
from sifa.inference.manifest import Manifest, settings_hash
from sifa.inference.manifest_file import CaseFile, read_cases
from sifa.io.nifti_files import load_nifti

# --- The class --------------------------------------------------------------------------------------------------------


def case(name: str, **changes: Any) -> Case:
    """Returns a case as a run records it."""
    made = Case(f"{name}.nii.gz", "ok", f"{name}_seg.nii.gz", seconds=1.0, signature="1 file")
    return replace(made, **changes)


def recorded(folder: Path, **changes: Any) -> Manifest:
    """Returns a manifest, read again, with one case whose mask is there."""
    folder.mkdir(exist_ok=True)
    (folder / "a_seg.nii.gz").write_bytes(b"mask")
    Manifest(folder, "settings").record(case("a", **changes))
    return Manifest(folder, "settings")


def shown(folder: Path) -> list[str]:
    """Returns the names in a folder but that of its lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".sifa.lock")


def test_each_record_is_on_disk_at_once_and_the_manifest_is_written_when_folded(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "deeper" / "masks", "settings")
    for number, status in enumerate(("ok", "failed", "skipped", "warning")):
        manifest.record(case(str(3 - number), status=status))
        assert {one.input for one in read_cases(manifest.path)} == {f"{name}.nii.gz" for name in range(3 - number, 4)}
        assert shown(manifest.path.parent) == ["manifest.jsonl"]
    manifest.fold()
    assert shown(manifest.path.parent) == ["manifest.json", "volumes.csv"]
    content = read_json(manifest.path)
    assert [one["input"] for one in content["cases"]] == [f"{name}.nii.gz" for name in range(4)]
    assert content["counts"] == {"ok": 1, "flagged": 0, "warning": 1, "failed": 1, "skipped": 1}
    summary = {**content, "cases": manifest.content()["cases"]}
    assert manifest.path.read_text(encoding="utf-8") == json.dumps(summary, indent=1) + "\n"
    assert count_statuses(manifest.cases.values()) == content["counts"]


def test_a_record_takes_the_same_time_however_many_there_are(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, "settings")
    size = 0
    for number in range(300):
        manifest.record(case(f"{number:03}", status="failed", output=None))
        grown, size = manifest.files[manifest.path].log.stat().st_size - size, size
        size += grown
        assert grown < 500  # bytes written


def test_the_next_run_folds_what_a_killed_one_has_recorded(tmp_path: Path) -> None:
    recorded(tmp_path).fold()
    Manifest(tmp_path, "settings").record(case("b"))
    with (tmp_path / "manifest.jsonl").open("ab") as stream:
        stream.write(b'{"input": "c.nii.gz", "sta')  # killed while it wrote
    assert [one.input for one in read_cases(tmp_path / "manifest.json")] == ["a.nii.gz", "b.nii.gz"]
    manifest = Manifest(tmp_path, "settings")
    assert set(manifest.cases) == {"a.nii.gz", "b.nii.gz"}
    assert shown(tmp_path) == ["a_seg.nii.gz", "manifest.json", "volumes.csv"]


def test_a_process_goes_on_behind_the_broken_line_of_a_killed_one(tmp_path: Path) -> None:
    first, second = Manifest(tmp_path, "settings"), Manifest(tmp_path, "settings")
    first.record(case("a"))
    with (tmp_path / "manifest.jsonl").open("ab") as stream:
        stream.write(b'{"input": "b.nii.gz", "sta')
    second.record(case("c"))
    first.record(case("d"))
    assert [one.input for one in read_cases(first.path)] == ["a.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert set(first.cases) == {"a.nii.gz", "c.nii.gz", "d.nii.gz"}


def test_a_process_killed_between_the_manifest_and_the_end_of_its_log_changes_nothing(tmp_path: Path) -> None:
    """Cases replace one another and take over masks; reading the log again, onto the result, gives the result."""
    random = np.random.default_rng(0)
    for trial in range(20):
        folder = tmp_path / str(trial)
        manifest = Manifest(folder, "settings")
        for _ in range(3):
            for name, output in random.integers(0, 4, (6, 2)):
                manifest.record(case(str(name), output=f"{output}_seg.nii.gz"))
            log = (folder / "manifest.jsonl").read_bytes()
            manifest.fold()
            (folder / "manifest.jsonl").write_bytes(log)
            assert {one.input: one for one in read_cases(manifest.path)} == manifest.cases
            manifest = Manifest(folder, "settings")


def test_processes_that_fold_and_record_in_turn_lose_no_case(tmp_path: Path) -> None:
    manifests = [Manifest(tmp_path, "settings") for _ in range(3)]
    random = np.random.default_rng(0)
    for number in range(60):
        one = manifests[random.integers(3)]
        one.record(case(str(number)))
        if random.random() < 0.3:
            manifests[random.integers(3)].fold()
    for one in manifests:
        one.refresh()
        assert set(one.cases) == {f"{number}.nii.gz" for number in range(60)}


def test_a_log_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "manifest.jsonl"
    log.write_text('{"event": "start"}\n', encoding="utf-8")
    assert f"{log}: it is not a manifest" in refusal(lambda: Manifest(tmp_path, "settings"))
    assert shown(tmp_path) == ["manifest.jsonl"]


def test_a_running_shard_is_seen_by_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sifa.inference.manifest.LISTING_S", 0.0)
    alone, shard = Manifest(tmp_path, "settings"), Manifest(tmp_path, "settings", 1, 2)
    assert alone.of_scan("a.nii.gz") is None
    shard.record(case("a"))
    assert alone.of_scan("a.nii.gz") == shard.cases["a.nii.gz"]


def test_a_case_replaces_the_one_of_the_same_scan(tmp_path: Path) -> None:
    manifest = recorded(tmp_path)
    manifest.record(case("a", status="failed", output=None))
    assert [one.status for one in read_cases(manifest.path)] == ["failed"]


def test_a_manifest_that_cannot_be_written_leaves_the_old_one_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = recorded(tmp_path)
    manifest.fold()
    before = manifest.path.read_text(encoding="utf-8")

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    manifest.record(case("b"))
    assert "No space left on device" in refusal(manifest.fold)
    assert manifest.path.read_text(encoding="utf-8") == before
    assert shown(tmp_path) == ["a_seg.nii.gz", "manifest.json", "manifest.jsonl", "volumes.csv"]
    monkeypatch.setattr(manifest_file, "append_entry", full)
    assert "No space left on device" in refusal(lambda: manifest.record(case("c")))
    assert [one.input for one in read_cases(manifest.path)] == ["a.nii.gz", "b.nii.gz"]


def test_a_mask_is_current_when_scan_settings_and_files_are_as_they_were(tmp_path: Path) -> None:
    assert recorded(tmp_path).is_current("a.nii.gz", "1 file")
    for status in ("warning", "flagged"):
        assert recorded(tmp_path, status=status).is_current("a.nii.gz", "1 file")


def test_a_mask_is_not_current_when_anything_changed(tmp_path: Path) -> None:
    manifest = recorded(tmp_path)
    assert not manifest.is_current("b.nii.gz", "1 file")
    assert not manifest.is_current("a.nii.gz", "1 other file")
    assert not manifest.is_current("a.nii.gz", "1 file", ["PreviewWriter"])
    assert not Manifest(tmp_path, "other settings").is_current("a.nii.gz", "1 file")
    (tmp_path / "a_seg.nii.gz").unlink()
    assert not manifest.is_current("a.nii.gz", "1 file")


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_what_has_no_mask_is_tried_again(status: str, tmp_path: Path) -> None:
    assert not recorded(tmp_path, status=status, output=None).is_current("a.nii.gz", "1 file")


def test_what_was_wanted_beside_the_mask_counts_and_has_to_be_there(tmp_path: Path) -> None:
    manifest = recorded(tmp_path, extras=["PreviewWriter"], preview="a_preview.png")
    assert not manifest.is_current("a.nii.gz", "1 file", ["PreviewWriter"])
    (tmp_path / "a_preview.png").write_bytes(b"picture")
    assert manifest.is_current("a.nii.gz", "1 file", ["PreviewWriter"])
    assert manifest.is_current("a.nii.gz", "1 file")
    assert not manifest.is_current("a.nii.gz", "1 file", ["PreviewWriter", "DicomSegWriter"])


def test_an_extra_that_could_not_be_made_is_not_tried_at_every_run(tmp_path: Path) -> None:
    manifest = recorded(tmp_path, extras=["DicomSegWriter"], status="warning", message="DicomSegWriter: no")
    assert manifest.is_current("a.nii.gz", "1 file", ["DicomSegWriter"])


def test_files_of_an_earlier_state_are_set_aside_and_not_lost(tmp_path: Path) -> None:
    manifest = recorded(tmp_path, preview="a_preview.png", dicom_seg=None)
    (tmp_path / "a_preview.png").write_bytes(b"picture")
    manifest.set_aside("a.nii.gz")
    manifest.set_aside("never seen.nii.gz")
    names = ["a_preview.png.outdated", "a_seg.nii.gz.outdated", "manifest.json", "volumes.csv"]
    assert shown(tmp_path) == names
    assert (tmp_path / "a_seg.nii.gz.outdated").read_bytes() == b"mask"


def test_files_of_a_scan_whose_content_changed_are_kept_and_those_of_the_same_content_stay(tmp_path: Path) -> None:
    mask = tmp_path / "a_seg.nii.gz"
    assert recorded(tmp_path).set_aside("a.nii.gz", mask, "1 file") == []
    for number, name in ((1, "a_seg.nii.gz.outdated"), (2, "a_seg.nii.gz.outdated.2")):
        manifest = recorded(tmp_path)
        mask.write_text(f"mask {number}", encoding="utf-8")
        assert manifest.set_aside("a.nii.gz", mask, "another file") == [name]
        assert (tmp_path / name).read_text(encoding="utf-8") == f"mask {number}"


def test_a_mask_is_current_under_its_name_only_and_is_set_aside_when_it_gets_another(tmp_path: Path) -> None:
    manifest = recorded(tmp_path, preview="a_preview.png")
    (tmp_path / "a_preview.png").write_bytes(b"picture")
    assert manifest.is_current("a.nii.gz", "1 file", mask=tmp_path / "a_seg.nii.gz")
    assert not manifest.is_current("a.nii.gz", "1 file", mask=tmp_path / "a.nii.gz")
    aside = ["a_seg.nii.gz.outdated", "a_preview.png.outdated"]
    assert manifest.set_aside("a.nii.gz", tmp_path / "a.nii.gz", "1 file") == aside


def test_a_file_that_no_manifest_lists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "b_seg.nii.gz").write_bytes(b"by hand")
    assert recorded(tmp_path).set_aside("b.nii.gz", tmp_path / "b_seg.nii.gz", "1 file") == ["b_seg.nii.gz.outdated"]


def test_two_manifests_of_one_folder_keep_each_others_cases(tmp_path: Path) -> None:
    first, second = (Manifest(tmp_path, "settings", dataset_dir=tmp_path / name) for name in "xy")
    first.record(case("a"))
    second.record(case("b"))
    first.record(case("c"))
    assert [one.input for one in read_cases(first.path)] == [f"{name}.nii.gz" for name in "abc"]
    second.keep_only([])
    assert [(one.input, one.folder) for one in read_cases(first.path)] == [("a.nii.gz", "x"), ("c.nii.gz", "x")]
    assert second.is_elsewhere(second.cases["a.nii.gz"])
    assert not first.is_elsewhere(first.cases["a.nii.gz"])


def test_a_mask_that_another_scan_or_somebody_replaced_is_not_current(tmp_path: Path) -> None:
    manifest = recorded(tmp_path)
    (tmp_path / "a_seg.nii.gz").write_bytes(b"of another model")
    assert not manifest.is_current("a.nii.gz", "1 file")


def test_one_mask_has_one_case(tmp_path: Path) -> None:
    manifest = recorded(tmp_path)
    manifest.record(replace(case("a"), input="a.nii", signature="another file"))
    assert [one.input for one in read_cases(manifest.path)] == ["a.nii"]


def test_a_scan_that_another_process_added_is_not_forgotten(tmp_path: Path) -> None:
    manifest = recorded(tmp_path)
    Manifest(tmp_path, "settings").record(case("b"))
    manifest.keep_only([], known=["a.nii.gz"])
    assert [one.input for one in read_cases(manifest.path)] == ["b.nii.gz"]


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    quality = {"liver": {"volume_ml": 12.0, "components": 1, "confidence": 0.9, "entropy": 0.2, "flags": ["empty"]}}
    measured = {"quality": quality, "volumes_ml": {"liver": 12.0}, "flags": {"liver": ["empty"]}}
    whole = case("a", extras=["PreviewWriter"], preview="a_preview.png", model="tiny", **measured)
    for one in (whole, case("b"), Case("c", "skipped", message="a localizer")):
        Manifest(tmp_path, "settings").record(one)
    found = {one.input: replace(one, settings=None) for one in read_cases(tmp_path / "manifest.json")}
    assert all(one.mask_hash is None for one in found.values())  # there is no mask
    assert found == {"a.nii.gz": whole, "b.nii.gz": case("b"), "c": Case("c", "skipped", message="a localizer")}


def test_the_content_of_a_manifest_is_asked_for_without_writing_it(tmp_path: Path) -> None:
    manifest = recorded(tmp_path)
    manifest.fold()
    manifest.path.unlink()
    made = case("a", settings="settings", mask_hash=sha256(b"mask").hexdigest()[:32])
    assert manifest.content()["cases"] == [made.to_json()]
    assert not manifest.path.exists()
    manifest.fold()
    assert [one.input for one in read_cases(manifest.path)] == ["a.nii.gz"]


OF_VERSION_0_1 = """{"bundle_version": "0.1.0", "created": "2026-11-01T10:00:00+00:00",
 "counts": {"ok": 0, "warning": 1, "failed": 1, "skipped": 0},
 "cases": [
  {"input": "a.nii.gz", "output": "a_seg.nii.gz", "message": "its pixels are coarse", "seconds": 1.2,
   "volumes_ml": {"liver": 1.5}, "flags": {}, "quality": {"liver": {"volume_ml": 1.5, "flags": []}},
   "preview": "a_preview.png", "status": "warning", "model": "tiny", "signature": "1 files, 3 bytes, 7",
   "extras": ["PreviewWriter"], "settings": "0123456789abcdef"},
  {"input": "b.nii.gz", "output": null, "message": "it is empty.", "seconds": 0.1, "status": "failed",
   "settings": "0123456789abcdef"}]}"""


def test_a_manifest_of_version_0_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(OF_VERSION_0_1, encoding="utf-8")
    first, second = read_cases(path)
    assert (first.status, first.output, first.preview) == ("warning", "a_seg.nii.gz", "a_preview.png")
    assert (second.status, second.output, second.message) == ("failed", None, "it is empty.")
    (tmp_path / "a_seg.nii.gz").write_bytes(b"mask")
    (tmp_path / "a_preview.png").write_bytes(b"picture")
    manifest = Manifest(tmp_path, "0123456789abcdef")
    assert manifest.is_current("a.nii.gz", "1 files, 3 bytes, 7", ["PreviewWriter"])
    manifest.fold()
    assert {one.input: one for one in (first, second)} == Manifest(tmp_path, "").cases


def test_scans_that_are_gone_are_forgotten_and_nothing_is_written_when_none_are(tmp_path: Path) -> None:
    manifest = recorded(tmp_path)
    manifest.record(case("b"))
    before = manifest.path.stat().st_mtime_ns
    manifest.keep_only(["a.nii.gz", "b.nii.gz"])
    assert manifest.path.stat().st_mtime_ns == before
    manifest.keep_only(["b.nii.gz", "c.nii.gz"])
    assert [one.input for one in read_cases(manifest.path)] == ["b.nii.gz"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{not json",
        "[]",
        "7",
        "{}",
        '{"cases": 7}',
        '{"cases": [7]}',
        '{"cases": [{}]}',
        '{"cases": [{"input": 1, "status": "ok", "output": "a"}]}',
        '{"cases": [{"input": "a", "status": "odd", "output": "a"}]}',
        '{"cases": [{"input": "a", "status": "ok", "output": null}]}',
        '{"cases": [{"input": "a", "status": "ok"}]}',
        '{"cases": [{"input": "a", "status": "failed", "preview": [1]}]}',
        '{"cases": [{"input": "a", "status": "failed", "extras": 1}]}',
    ],
)
def test_a_broken_manifest_is_refused_and_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text, encoding="utf-8")
    assert str(path) in refusal(lambda: Manifest(tmp_path, "settings"))
    assert path.read_text(encoding="utf-8") == text


def test_bytes_that_are_no_text_are_refused_as_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    assert "not a manifest" in refusal(lambda: Manifest(tmp_path, "settings"))


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    Manifest(tmp_path, "settings").record(case(name))
    assert Manifest(tmp_path, "settings").cases[f"{name}.nii.gz"].status == "ok"


@pytest.mark.parametrize(("shard", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_does_not_exist_is_refused(shard: int, count: int, tmp_path: Path) -> None:
    assert "count shards from 0" in refusal(lambda: Manifest(tmp_path, "settings", shard, count))


# --- Settings -------------------------------------------------------------------------------------------------------


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.pt").write_bytes(b"weights")
    (folder / "fingerprint.json").write_text("{}", encoding="utf-8")
    return folder


def test_the_settings_hash_depends_on_weights_fingerprint_settings_and_nothing_else(tmp_path: Path) -> None:
    folder, settings = model_folder(tmp_path / "model"), {"precision": "float32", "overlap": 0.25}
    first = settings_hash([folder], settings)
    assert settings_hash([model_folder(tmp_path / "copy")], dict(reversed(settings.items()))) == first
    assert settings_hash([folder], {**settings, "overlap": 0.5}) != first
    (folder / "model.pt").write_bytes(b"others")
    second = settings_hash([folder], settings)
    (folder / "fingerprint.json").write_text("[]", encoding="utf-8")
    assert len({first, second, settings_hash([folder], settings)}) == 3


@pytest.mark.parametrize("name", ["model.pt", "fingerprint.json"])
def test_a_folder_without_a_model_is_named(name: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / name).unlink()
    assert str(folder / name) in refusal(lambda: settings_hash([folder], {}))


# --- The command line -------------------------------------------------------------------------------------------------


def write_scans(folder: Path, count: int) -> Path:
    """Writes scans; the last is a DICOM series with a slice that is there twice."""
    for number in range(count - 1):
        write_nifti(folder / f"patient_{number}" / "scan.nii.gz", ct() + number, diagonal_affine(SPACING))
    series = write_dicom_series(folder / f"patient_{count - 1}" / "series1", ct((32, 32, 16)), DICOM_SPACING)
    shutil.copy(series / "slice_004.dcm", series / "slice_004_copy.dcm")
    return folder


def infer(
    model: Path, scans: Path, output: Path, check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    given = {"model_dir": model, "dataset_dir": scans, "output_dir": output, **options}
    result = run_bundle("inference", ["inference.yaml"], check=check, **given)
    assert "Traceback" not in result.stderr + result.stdout
    return result


def masks(output: Path) -> dict[str, int]:
    """Returns the masks by name and when they were written; each has to be whole."""
    found = {}
    for path in sorted(output.rglob("*_seg.nii.gz")):
        if not path.name.startswith("."):
            assert np.asarray(load_nifti(path).dataobj).max() <= 4
            found[str(path.relative_to(output))] = path.stat().st_mtime_ns
    return found


def cases(output: Path, name: str = "manifest.json") -> dict[str, dict[str, Any]]:
    content = read_json(output / name)
    assert sum(content["counts"].values()) == len(content["cases"])
    return {one["input"]: one for one in content["cases"]}


@pytest.fixture(scope="module")
def done(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three scans and the output of a run over them."""
    folder = tmp_path_factory.mktemp("done")
    scans, output = write_scans(folder / "scans", 3), folder / "masks"
    infer(trained, scans, output)
    return scans, output


@pytest.fixture
def again(done: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Copies of both, times included."""
    for folder in done:
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / done[0].name, tmp_path / done[1].name


def made_anew(before: dict[str, int], output: Path) -> set[str]:
    """Returns the patients whose masks were written since; none may be lost."""
    after = masks(output)
    assert set(after) == set(before)
    return {name.split("/")[0] for name in after if after[name] != before[name]}


def test_running_again_does_nothing(trained: Path, again: tuple[Path, Path]) -> None:
    scans, output = again
    before, manifest = masks(output), (output / "manifest.json").read_bytes()
    assert len(before) == 3
    result = infer(trained, scans, output)
    assert result.stdout.count("already done") == 3
    assert made_anew(before, output) == set()
    assert (output / "manifest.json").read_bytes() == manifest


def test_only_what_is_missing_or_changed_is_made_anew_and_what_is_gone_is_forgotten(
    trained: Path, again: tuple[Path, Path]
) -> None:
    scans, output = again
    write_nifti(scans / "new.nii.gz", ct(), diagonal_affine(SPACING))
    shutil.rmtree(scans / "patient_0")
    infer(trained, scans, output)
    assert set(cases(output)) == {"new.nii.gz", "patient_1/scan.nii.gz", "patient_2/series1"}
    before = masks(output)
    assert "patient_0/scan_seg.nii.gz" in before
    (output / "new_seg.nii.gz").unlink()
    write_nifti(scans / "patient_1" / "scan.nii.gz", ct() + 7, diagonal_affine(SPACING))
    infer(trained, scans, output)
    assert made_anew(before, output) == {"new_seg.nii.gz", "patient_1"}


def test_a_slice_that_changes_makes_the_mask_of_its_series_anew(trained: Path, again: tuple[Path, Path]) -> None:
    scans, output = again
    before = masks(output)
    slice_file = scans / "patient_2" / "series1" / "slice_003.dcm"
    os.utime(slice_file)
    infer(trained, scans, output)
    assert made_anew(before, output) == set()
    dataset = pydicom.dcmread(slice_file)
    dataset.PixelData = np.roll(dataset.pixel_array, 1, axis=0).tobytes()
    dataset.save_as(slice_file)
    infer(trained, scans, output)
    assert made_anew(before, output) == {"patient_2"}


def change_weights(model: Path) -> dict[str, Any]:
    state = torch.load(model / "model.pt", weights_only=True)
    name = next(name for name, value in state.items() if value.is_floating_point())
    state[name] = state[name] + 0.01
    torch.save(state, model / "model.pt")
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [change_weights, lambda model: {"overwrite": "true"}, lambda model: {"inferer__overlap": 0.5}]
)
def test_other_weights_other_settings_and_overwrite_make_all_anew(
    change: Callable[[Path], dict[str, Any]], trained: Path, again: tuple[Path, Path], tmp_path: Path
) -> None:
    scans, output = again
    before, model = masks(output), tmp_path / "model"
    shutil.copytree(trained, model)
    infer(model, scans, output, **change(model))
    assert made_anew(before, output) == {"patient_0", "patient_1", "patient_2"}


@pytest.mark.slow
def test_pictures_that_are_wanted_later_are_made(trained: Path, again: tuple[Path, Path]) -> None:
    scans, output = again
    infer(trained, scans, output, previews="true")
    assert len(list(output.rglob("*_preview.png"))) == 3
    assert all((output / one["preview"]).is_file() for one in cases(output).values())


def test_a_scan_that_got_damaged_loses_its_mask_and_gets_one_when_it_is_whole_again(
    trained: Path, again: tuple[Path, Path]
) -> None:
    scans, output = again
    scan, mask = scans / "patient_0" / "scan.nii.gz", output / "patient_0" / "scan_seg.nii.gz"
    whole, before = scan.read_bytes(), mask.read_bytes()
    scan.write_bytes(whole[: len(whole) // 2])
    assert infer(trained, scans, output, check=False).returncode == 1
    assert cases(output)["patient_0/scan.nii.gz"]["output"] is None
    assert not mask.exists()
    assert mask.with_name("scan_seg.nii.gz.outdated").read_bytes() == before
    scan.write_bytes(whole)
    infer(trained, scans, output)
    assert np.array_equal(
        np.asarray(load_nifti(mask).dataobj), np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(before)).dataobj)
    )


@pytest.mark.slow
def test_a_map_of_uncertainty_lies_beside_each_mask_in_the_scans_own_grid(
    trained: Path, again: tuple[Path, Path]
) -> None:
    scans, output = again
    infer(trained, scans, output, uncertainty="true")
    found = cases(output)
    assert len(found) == 3
    for one in found.values():
        mask, uncertainty = load_nifti(output / one["output"]), load_nifti(output / one["uncertainty"])
        assert one["uncertainty"].endswith("_uncertainty.nii.gz")
        assert np.array_equal(uncertainty.affine, mask.affine)
        assert uncertainty.shape == mask.shape
        assert uncertainty.get_data_dtype() == np.uint8
        values = uncertainty.get_fdata()
        assert 0 <= values.min() < values.max() <= 1
    infer(trained, output, output / "masks_of_masks", check=False)
    assert not list((output / "masks_of_masks").rglob("*uncertainty_seg.nii.gz"))


def test_a_single_scan_is_added_and_ends_by_its_own_fate(trained: Path, again: tuple[Path, Path]) -> None:
    scans, output = again
    (scans / "bad.nii.gz").write_text("no image", encoding="utf-8")
    assert infer(trained, scans / "bad.nii.gz", output, check=False).returncode == 1
    assert len(cases(output)) == 4
    result = infer(trained, scans / "patient_0" / "scan.nii.gz", output)
    assert "INFO sifa.inference.segment_scans: 1 scan: " in result.stdout
    assert set(cases(output)) == {"bad.nii.gz", "scan.nii.gz", *(one for one in cases(output) if "/" in one)}


def test_a_broken_manifest_or_an_output_that_is_no_folder_ends_the_run_with_a_sentence(
    trained: Path, again: tuple[Path, Path], tmp_path: Path
) -> None:
    scans, output = again
    (output / "manifest.json").write_text('{"cases": [7]}', encoding="utf-8")
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    for place, words in ((output, "not a manifest of this bundle"), (tmp_path / "file", "cannot be written")):
        result = infer(trained, scans, place, check=False)
        assert result.returncode == 1
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert words in line


def test_another_patients_file_of_the_same_name_size_and_time_is_segmented_anew(trained: Path, tmp_path: Path) -> None:
    scans, output, truth = tmp_path / "scans", tmp_path / "masks", tmp_path / "truth"
    for number, volume in enumerate((ct(), ct()[::-1, :, ::-1] + 5)):
        write_nifti(scans / "ct.nii", np.ascontiguousarray(volume), diagonal_affine(SPACING))
        os.utime(scans / "ct.nii", (315532800, 315532800))
        infer(trained, scans, output)
        infer(trained, scans, truth / str(number))
        found, right = (load_nifti(folder / "ct_seg.nii.gz").dataobj for folder in (output, truth / str(number)))
        assert np.array_equal(found, right)
    kept = nib.Nifti1Image.from_bytes(gzip.decompress((output / "ct_seg.nii.gz.outdated").read_bytes()))
    assert np.array_equal(kept.dataobj, load_nifti(truth / "0" / "ct_seg.nii.gz").dataobj)
    assert cases(output)["ct.nii"]["earlier"] == ["ct_seg.nii.gz.outdated"]


def test_another_folder_whose_scans_have_the_same_names_is_refused_and_a_moved_one_passes(
    trained: Path, again: tuple[Path, Path], tmp_path: Path
) -> None:
    scans, output = again
    before, manifest = masks(output), (output / "manifest.json").read_bytes()
    other = write_scans(tmp_path / "other", 2)
    write_nifti(other / "patient_0" / "scan.nii.gz", ct() - 3, diagonal_affine(SPACING))
    result = infer(trained, other, output, check=False)
    assert result.returncode == 1
    assert "it holds the mask of another scan named patient_0/scan.nii.gz, of the folder ../scans" in result.stderr
    assert (masks(output), (output / "manifest.json").read_bytes()) == (before, manifest)
    moved = scans.rename(tmp_path / "moved")
    result = infer(trained, moved, output)
    assert result.stdout.count("already done") == 3
    assert masks(output) == before


def test_what_is_skipped_or_unreadable_in_another_folder_does_not_take_the_place_of_a_mask(
    trained: Path, again: tuple[Path, Path], tmp_path: Path
) -> None:
    _, output = again
    before, manifest = masks(output), (output / "manifest.json").read_bytes()
    (tmp_path / "other" / "patient_0").mkdir(parents=True)
    (tmp_path / "other" / "patient_0" / "scan.nii.gz").symlink_to("nowhere")
    result = infer(trained, tmp_path / "other", output, check=False)
    assert result.returncode == 1
    assert "choose another --output_dir" in result.stderr
    assert (masks(output), (output / "manifest.json").read_bytes()) == (before, manifest)


def test_scans_of_another_folder_under_other_names_are_added_and_none_is_dropped(
    trained: Path, again: tuple[Path, Path], tmp_path: Path
) -> None:
    _, output = again
    before = set(cases(output))
    write_nifti(tmp_path / "other" / "new.nii.gz", ct(), diagonal_affine(SPACING))
    infer(trained, tmp_path / "other", output)
    assert set(cases(output)) == before | {"new.nii.gz"}


def start(model: Path, scans: Path, output: Path, log: Path) -> subprocess.Popen[str]:
    """Starts a run with pictures, which take their time, and returns once two scans are done."""
    options = {"config_file": BUNDLE / "configs" / "inference.yaml", "model_dir": model, "previews": "true"}
    flags = as_flags({**options, "dataset_dir": scans, "output_dir": output})
    process = subprocess.Popen(
        [sys.executable, "-m", "monai.bundle", "run", "inference", *flags],
        stdout=subprocess.PIPE,
        stderr=log.open("wb"),
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    )
    assert process.stdout is not None
    done = (line for line in process.stdout if re.search(r": (ok|flagged|warning) in ", line))
    assert len(list(islice(done, 2))) == 2, log.read_text(encoding="utf-8")
    return process


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_whole_masks_and_is_finished_by_running_again(
    trained: Path, tmp_path: Path
) -> None:
    scans, output = write_scans(tmp_path / "scans", 8), tmp_path / "masks"
    process = start(trained, scans, output, tmp_path / "log")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before, known = masks(output), read_cases(output / "manifest.json")
    assert 2 <= len(known) < 8
    assert {str(one.output) for one in known} <= set(before)
    infer(trained, scans, output, previews="true")
    after = masks(output)
    assert len(after) == len(cases(output)) == 8
    assert all(after[str(one.output)] == before[str(one.output)] for one in known)


@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_a_sentence_and_running_again_goes_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, output, temporary = write_scans(tmp_path / "scans", 8), tmp_path / "masks", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = start(trained, scans, output, tmp_path / "log")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    stderr = (tmp_path / "log").read_text(encoding="utf-8")
    assert "Traceback" not in stderr
    last = re.fullmatch(
        r"error: interrupted after (\d) of 8 scans; run the command again to continue\.", stderr.splitlines()[-1]
    )
    assert last, stderr
    known = len(cases(output))
    assert known - 1 <= int(last[1]) <= known < 8  # the scan at hand may have been recorded just before
    assert {one["output"] for one in cases(output).values()} <= set(masks(output))
    assert [path.name for path in output.rglob(".*")] == [".sifa.lock"]
    assert list(temporary.rglob("*")) == []
    result = infer(trained, scans, output, previews="true")
    assert result.stdout.count("already done") == known
    assert len(masks(output)) == 8


@pytest.mark.slow
def test_shards_cover_the_folder_without_overlap_and_are_merged(
    trained: Path, done: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, whole = done
    infer(trained, scans, tmp_path, previews="true", num_shards=2, shard=0)
    with monkeypatch.context() as patch:  # as torchrun has it
        patch.setenv("RANK", "1")
        patch.setenv("WORLD_SIZE", "2")
        infer(trained, scans, tmp_path, previews="true")
    shards = [set(cases(tmp_path, f"manifest.shard-{shard}-of-2.json")) for shard in range(2)]
    assert [len(shard) for shard in shards] == [2, 1]
    assert set.union(*shards) == set(cases(whole))
    assert set(masks(tmp_path)) == set(masks(whole))
    assert not (tmp_path / "index.html").exists()
    run_bundle("merge", ["inference.yaml"], output_dir=tmp_path)
    assert set(cases(tmp_path)) == set(cases(whole))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(f'Three planes of {name}"' in page for name in cases(whole))
    (tmp_path / "index.html").write_text("old", encoding="utf-8")
    infer(trained, scans, tmp_path)
    assert all(name in (tmp_path / "index.html").read_text(encoding="utf-8") for name in cases(whole))


def test_a_shard_without_scans_does_nothing_and_forgets_what_it_once_had(
    trained: Path, done: tuple[Path, Path], tmp_path: Path
) -> None:
    CaseFile(tmp_path / "manifest.shard-3-of-4.json", [case("a")]).write()
    infer(trained, done[0], tmp_path, num_shards=4, shard=3)
    assert cases(tmp_path, "manifest.shard-3-of-4.json") == {}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("highdicom") is None, reason="DICOM SEG needs highdicom")
def test_a_series_gets_a_dicom_seg_and_an_rtstruct_and_a_nifti_scan_none(
    trained: Path, done: tuple[Path, Path], tmp_path: Path
) -> None:
    infer(trained, done[0], tmp_path, dicom_seg="true", rtstruct="true")
    found = cases(tmp_path)
    assert [name for name, one in found.items() if one.get("dicom_seg")] == ["patient_2/series1"]
    assert found["patient_2/series1"]["message"] == "1 of 17 slices repeat others and are left out"
    segmentation = pydicom.dcmread(tmp_path / found["patient_2/series1"]["dicom_seg"])
    assert segmentation.Modality == "SEG"
    assert len(segmentation.SegmentSequence) == 4
    structures = pydicom.dcmread(tmp_path / found["patient_2/series1"]["rtstruct"])
    assert [roi.ROINumber for roi in structures.StructureSetROISequence] == [1, 2, 3, 4]
    assert structures.FrameOfReferenceUID == segmentation.FrameOfReferenceUID
    assert len(list(tmp_path.rglob("*.dcm"))) == 2
