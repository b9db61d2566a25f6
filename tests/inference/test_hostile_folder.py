"""A folder of bad, odd and good scans in one run: good ones are segmented, the others named, nothing is harmed."""

from __future__ import annotations

import hashlib
import stat
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
from builders import read_json
from conftest import run_bundle
from hostile import CASES, DICOM_SHAPE, DICOM_SPACING, Case, write_hostile_folder
from sifa.io.nifti_files import load_nifti
from sifa.reports.pages import breakable

pytestmark = pytest.mark.slow

LISTED = [case for case in CASES if case.status != "absent"]
MADE = ("ok", "warning")


class Run(NamedTuple):
    folder: Path
    output: Path
    temporary: Path
    result: subprocess.CompletedProcess[str]
    before: dict[str, str]
    cases: dict[str, dict[str, Any]]


def state_of(folder: Path) -> dict[str, str]:
    """Returns what identifies each file below a folder: content, links, kinds and times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        link = str(path.readlink()) if path.is_symlink() else ""
        found[str(path)] = f"{status.st_mode} {status.st_mtime_ns} {link} {hashlib.sha256(data).hexdigest()}"
    return found


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run over the whole folder."""
    place = tmp_path_factory.mktemp("hostile")
    folder, output, temporary = place / "scans", place / "masks", place / "temporary"
    folder.mkdir()
    temporary.mkdir()
    write_hostile_folder(folder)
    before = state_of(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        result = run_bundle(
            "inference",
            ["inference.yaml"],
            check=False,
            model_dir=trained,
            dataset_dir=folder,
            output_dir=output,
            previews=True,
        )
    manifest = read_json(output / "manifest.json")
    return Run(folder, output, temporary, result, before, {case["input"]: case for case in manifest["cases"]})


def test_the_folder_holds_at_least_40_kinds_of_input_that_are_not_plainly_good() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert len([case for case in CASES if case.status in ("failed", "warning", "skipped")]) >= 40


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """Makes a test of each case."""
    return pytest.mark.parametrize("case", cases, ids=[ascii(case.name)[1:-1][:60] for case in cases])


@each(LISTED)
def test_each_input_is_named_in_the_manifest_with_what_is_wrong(case: Case, run: Run) -> None:
    found = run.cases[case.name]
    status = "ok" if found["status"] == "flagged" else found["status"]  # the tiny model's masks are odd
    assert status == case.status, found["message"]
    assert case.words in found["message"]
    assert bool(found["message"]) == (case.status != "ok"), found["message"]
    assert "\n" not in found["message"]


@each([case for case in LISTED if case.status in MADE])
def test_each_scan_that_can_be_segmented_has_a_mask_in_its_own_grid(case: Case, run: Run) -> None:
    mask = load_nifti(run.output / run.cases[case.name]["output"])
    assert mask.get_data_dtype() == np.uint8
    assert np.asarray(mask.dataobj).max() <= 4
    scan = run.folder / case.path
    if scan.is_dir():
        assert mask.shape == (*DICOM_SHAPE[:2], DICOM_SHAPE[2] - case.lost)
        assert nib.affines.voxel_sizes(mask.affine) == pytest.approx(DICOM_SPACING, rel=1e-3)
        return
    image = nib.load(scan)
    assert isinstance(image, nib.Nifti1Image)
    assert mask.shape == image.shape[:3]
    assert np.array_equal(mask.affine, image.affine)


@each([case for case in LISTED if case.status not in MADE])
def test_each_scan_that_cannot_be_segmented_has_no_mask(case: Case, run: Run) -> None:
    assert run.cases[case.name]["output"] is None


@each([case for case in CASES if case.status == "absent"])
def test_what_is_no_scan_is_left_out(case: Case, run: Run) -> None:
    assert case.name not in run.cases


def test_the_manifest_lists_nothing_else(run: Run) -> None:
    assert set(run.cases) == {case.name for case in LISTED}


def test_nobody_sees_a_traceback_and_the_run_ends_with_a_summary_and_status_1(run: Run) -> None:
    failed = sum(case.status == "failed" for case in LISTED)
    assert "Traceback" not in run.result.stderr + run.result.stdout
    assert "Logging error" not in run.result.stderr + run.result.stdout
    assert run.result.returncode == 1
    lines = run.result.stderr.splitlines()
    assert (
        lines[-1] == f"error: {failed} of {len(LISTED)} scans failed; {run.output / 'manifest.json'} has the reasons."
    )
    assert sum(line.startswith("failed: ") for line in lines) == failed


def test_the_page_lists_every_input(run: Run) -> None:
    page = (run.output / "index.html").read_text(encoding="utf-8")
    for case in LISTED:
        name = f'<span class="name">{breakable(case.name)}</span>'
        assert name.encode("utf-8", "replace").decode() in page


def test_nothing_is_written_but_what_the_manifest_lists(run: Run) -> None:
    listed = {found[key] for found in run.cases.values() for key in ("output", "preview") if found.get(key)}
    written = {str(path.relative_to(run.output)) for path in run.output.rglob("*") if not path.is_dir()}
    assert written == {*listed, "manifest.json", "volumes.csv", "index.html", ".sifa.lock"}
    assert list(run.temporary.rglob("*")) == []


def test_the_scans_are_left_as_they_were(run: Run) -> None:
    assert state_of(run.folder) == run.before
