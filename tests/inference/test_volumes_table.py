"""`volumes.csv`: a row for each scan and structure, whole at any moment, and made from the manifest alone."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import diagonal_affine, read_json, refusal, write_nifti
from conftest import run_bundle
from hostile import SPACING, ct
from sifa.inference.case import Case
from sifa.inference.manifest import Manifest
from sifa.inference.volumes_table import COLUMNS, VolumesTable
from sifa.io.nifti_files import load_nifti

LIVER = {
    **{"value": 1, "volume_ml": 12.5, "mean": 51.2, "sd": 17.3, "unit": "HU", "extent_mm": [120.0, 90.5, 81.0]},
    **{"touches_border": True, "components": 2, "confidence": 0.9, "entropy": 0.1, "flags": ["cut off", "odd, too"]},
}


def case(name: str, **changes: Any) -> Case:
    """Returns a case with one structure."""
    made = Case(name, "flagged", f"{name}_seg.nii.gz", quality={"liver": LIVER}, volumes_ml={"liver": 12.5})
    return replace(made, **changes)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_row_has_what_was_measured(tmp_path: Path) -> None:
    VolumesTable(tmp_path).write([case("b"), case("a", message="coarse; pixels")])
    first, second = rows(tmp_path / "volumes.csv")
    assert list(first) == list(COLUMNS)
    assert (first["scan"], second["scan"]) == ("a", "b")
    assert first == {
        **{"scan": "a", "status": "flagged", "structure": "liver", "value": "1", "volume_ml": "12.5", "mean": "51.2"},
        **{"sd": "17.3", "unit": "HU", "extent_lr_mm": "120.0", "extent_ap_mm": "90.5", "extent_si_mm": "81.0"},
        **{"touches_border": "True", "components": "2", "confidence": "0.9", "entropy": "0.1"},
        **{"flags": "cut off; odd, too", "message": "coarse; pixels"},
    }


def test_a_scan_without_a_mask_has_a_row_so_that_none_is_missing(tmp_path: Path) -> None:
    VolumesTable(tmp_path).write([Case("a", "failed", message="it is empty."), case("b")])
    first, second = rows(tmp_path / "volumes.csv")
    assert (first["status"], first["structure"], first["message"]) == ("failed", "", "it is empty.")
    assert second["structure"] == "liver"


def test_figures_that_a_later_version_adds_by_structure_become_columns(tmp_path: Path) -> None:
    table, quality = VolumesTable(tmp_path), {"liver": {**LIVER, "predicted_dice": 0.87, "curve": [1, 2]}}
    table.write([case("a")])
    assert "predicted_dice" not in rows(tmp_path / "volumes.csv")[0]
    table.write([case("a"), case("b", quality=quality)])
    first, second = rows(tmp_path / "volumes.csv")
    assert (first["predicted_dice"], second["predicted_dice"]) == ("", "0.87")
    assert list(first) == [*COLUMNS, "predicted_dice"]


def test_an_entry_of_a_case_that_is_by_structure_becomes_a_column(tmp_path: Path) -> None:
    class Later(Case):
        """A case of a later version."""

        def to_json(self) -> dict[str, Any]:
            return super().to_json() | {"predicted_dice": {"liver": 0.5}}

    VolumesTable(tmp_path).write([Later("a", "ok", "a_seg.nii.gz", quality={"liver": LIVER})])
    assert rows(tmp_path / "volumes.csv")[0]["predicted_dice"] == "0.5"


def test_a_case_of_an_earlier_version_has_empty_cells(tmp_path: Path) -> None:
    VolumesTable(tmp_path).write([case("a", quality={"liver": {"volume_ml": 1.5, "flags": []}})])
    (row,) = rows(tmp_path / "volumes.csv")
    assert (row["volume_ml"], row["mean"], row["extent_lr_mm"]) == ("1.5", "", "")


def test_only_rows_of_new_cases_are_made_and_an_equal_file_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Counted(Case):
        """A case that notes when it is read."""

        def to_json(self) -> dict[str, Any]:
            made.append(self.input)
            return super().to_json()

    cases = [Counted(name, "ok", f"{name}_seg.nii.gz", quality={"liver": LIVER}) for name in "abc"]
    table = VolumesTable(tmp_path)
    table.write(cases[:2])
    table.write(cases)
    assert made == ["a", "b", "c"]
    before = (tmp_path / "volumes.csv").stat()
    table.write(cases)
    VolumesTable(tmp_path).write(cases)
    assert (tmp_path / "volumes.csv").stat().st_ino == before.st_ino
    table.write(cases[1:])
    assert [row["scan"] for row in rows(tmp_path / "volumes.csv")] == ["b", "c"]


def test_a_table_of_somebody_else_is_kept_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "volumes.csv").write_text("patient;ml\n1;2\n", encoding="utf-8")
    VolumesTable(tmp_path).write([case("a")])
    assert (tmp_path / "volumes.csv.outdated").read_text(encoding="utf-8") == "patient;ml\n1;2\n"
    assert len(rows(tmp_path / "volumes.csv")) == 1


def test_names_of_files_that_are_no_text_are_written_as_escapes(tmp_path: Path) -> None:
    VolumesTable(tmp_path).write([case(os.fsdecode(b"\xff,\n"))])
    (row,) = rows(tmp_path / "volumes.csv")
    assert row["scan"] == "\\udcff,\n"


def test_a_full_disk_is_reported_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "No space left on device" in refusal(lambda: VolumesTable(tmp_path).write([case("a")]))


def test_the_table_follows_the_manifest_and_a_shard_writes_none(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, "settings")
    for number, name in enumerate("abc", start=1):
        manifest.record(case(name))
        manifest.fold()
        assert len(rows(tmp_path / "volumes.csv")) == number
    manifest.keep_only(["b"])
    manifest.fold()
    assert [row["scan"] for row in rows(tmp_path / "volumes.csv")] == ["b"]
    shard = Manifest(tmp_path / "shards", "settings", 0, 2)
    shard.record(case("a"))
    shard.fold()
    assert not (tmp_path / "shards" / "volumes.csv").exists()


# --- The command line -------------------------------------------------------------------------------------------------


def infer(model: Path, scans: Path, output: Path, **options: Any) -> str:
    given = {"model_dir": model, "dataset_dir": scans, "output_dir": output, **options}
    return run_bundle("inference", ["inference.yaml"], check=False, **given).stdout


@pytest.mark.slow
def test_the_table_of_a_cohort_agrees_with_its_masks_whether_resumed_or_in_shards(
    trained: Path, tmp_path: Path
) -> None:
    scans, output, shards = tmp_path / "scans", tmp_path / "masks", tmp_path / "shards"
    for number in range(2):
        write_nifti(scans / f"{number}.nii.gz", ct() + number, diagonal_affine(SPACING))
    infer(trained, scans, output)
    write_nifti(scans / "more" / "2.nii.gz", ct() - 3, diagonal_affine(SPACING))
    (scans / "broken.nii.gz").write_text("no image", encoding="utf-8")
    assert infer(trained, scans, output).count("already done") == 2
    found = rows(output / "volumes.csv")
    names = read_json(trained / "fingerprint.json")["labels"]
    assert [row["status"] for row in found if row["scan"] == "broken.nii.gz"] == ["failed"]
    measured = [row for row in found if row["structure"]]
    assert len(measured) == 3 * (len(names) - 1)
    for row in measured:
        scan = np.asarray(load_nifti(scans / row["scan"]).dataobj)
        mask = np.asarray(load_nifti(output / row["scan"].replace(".nii.gz", "_seg.nii.gz")).dataobj)
        inside = scan[mask == int(row["value"])].astype(float)
        assert row["structure"] == names[row["value"]]
        assert float(row["volume_ml"]) == pytest.approx(len(inside) * np.prod(SPACING) / 1000, abs=1e-3)
        if len(inside):
            assert float(row["mean"]) == pytest.approx(inside.mean(), rel=1e-4)
            assert float(row["sd"]) == pytest.approx(inside.std(), rel=1e-4)
            assert row["unit"] == "HU"
            places = zip(np.nonzero(mask == int(row["value"])), SPACING, strict=True)
            extents = [(np.ptp(axis) + 1) * step for axis, step in places]
            assert [float(row[f"extent_{axis}_mm"]) for axis in ("lr", "ap", "si")] == pytest.approx(extents, abs=0.06)
    (output / "volumes.csv").unlink()
    infer(trained, scans, output)
    assert rows(output / "volumes.csv") == found
    for shard in range(2):
        infer(trained, scans, shards, num_shards=2, shard=shard)
    run_bundle("merge", ["inference.yaml"], output_dir=shards)
    assert rows(shards / "volumes.csv") == found
