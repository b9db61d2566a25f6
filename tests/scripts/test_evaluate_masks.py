"""scripts/evaluate_masks.py, run as a user does: masks of any program, and whatever is wrong with one of them."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest
from builders import (
    Array,
    assert_refused,
    diagonal_affine,
    make_fingerprint,
    read_json,
    refusal,
    write_description,
    write_nifti,
)
from conftest import run_bundle, run_script
from evaluate_masks import find_structures, measure_pair, parse_structures
from mask_pairs import MaskPair
from sifa.fingerprint.fingerprint import write_fingerprint

AFFINE = diagonal_affine((0.8, 1.5, 3.0))
STRUCTURES = "1:liver,2:left kidney"
CASES = ("ct_1", "ct_2", "ct_3")


def label_map(seed: int, kind: str = "uint8") -> Array:
    return np.random.default_rng(seed).choice([0, 0, 1, 2], size=(9, 8, 7)).astype(kind)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three masks and their labels, NIfTI in one grid."""
    masks, labels = tmp_path / "masks", tmp_path / "labels"
    for seed, case in enumerate(CASES):
        write_nifti(masks / f"{case}_seg.nii.gz", label_map(seed), AFFINE)
        write_nifti(labels / f"{case}_label.nii.gz", label_map(seed + 10), AFFINE)
    return masks, labels


def evaluate(folders: tuple[Path, Path], *options: str, structures: str | None = STRUCTURES) -> Any:
    """Runs the script; results go beside the folders."""
    masks, labels = folders
    named = [] if structures is None else ["--structures", structures]
    output = f"--output_dir={masks.parent / 'results'}"
    return run_script("evaluate_masks.py", str(masks), str(labels), output, *named, *options, check=False)


def results(folders: tuple[Path, Path]) -> Any:
    return read_json(folders[0].parent / "results" / "results.json")


def errors(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert "Traceback" not in result.stderr
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


def test_two_folders_give_tables_figures_and_every_value(folders: tuple[Path, Path]) -> None:
    result = evaluate(folders)

    assert (result.returncode, errors(result)) == (0, [])
    assert "Cases measured: 3;" in result.stdout
    output = folders[0].parent / "results"
    endings = (".csv", ".json", ".md", ".tex", "_box_plots.png", "_box_plots.svg")
    assert sorted(path.name for path in output.iterdir()) == [f"results{ending}" for ending in endings]
    rows = list(csv.DictReader((output / "results.csv").open(encoding="utf-8")))
    assert [(row["volume"], row["structure"]) for row in rows] == [
        (case, name) for case in CASES for name in ("liver", "left kidney")
    ]
    for row in rows:
        number, value = CASES.index(row["volume"]), {"liver": 1, "left kidney": 2}[row["structure"]]
        pred, truth = label_map(number) == value, label_map(number + 10) == value
        assert float(row["mean_dice"]) == pytest.approx(200 * (pred & truth).sum() / (pred.sum() + truth.sum()))
        assert float(row["true_volume_ml"]) == pytest.approx(truth.sum() * 0.8 * 1.5 * 3 / 1000, abs=1e-6)


def test_other_formats_give_the_same_values(folders: tuple[Path, Path]) -> None:
    masks, labels = folders
    image = itk.imread(str(masks / "ct_1_seg.nii.gz"))
    for case, suffix in (("ct_4", ".nrrd"), ("ct_5", ".mha")):
        itk.imwrite(image, str(masks / f"{case}{suffix}"))
        write_nifti(labels / f"{case}.nii", label_map(10, "float32"), AFFINE)

    assert evaluate(folders).returncode == 0

    for metric in results(folders)["metrics"].values():
        for entry in metric["structures"].values():
            first, _, _, nrrd, meta = entry["volumes"]
            assert first == nrrd == meta


def test_two_files_are_one_case_and_options_are_recorded(folders: tuple[Path, Path]) -> None:
    masks, labels = folders

    options = ("--tolerance_mm=0.9", "--resamples=50", "--seed=3")
    result = evaluate((masks / "ct_2_seg.nii.gz", labels / "ct_2_label.nii.gz"), *options)

    assert result.returncode == 0
    content = read_json(masks / "results" / "results.json")
    assert (content["volumes"], content["tolerance_mm"]) == (["ct_2"], 0.9)
    assert content["metrics"]["nsd"]["heading"] == "NSD at 0.9 mm (%)"
    assert (content["intervals"]["resamples"], content["intervals"]["random_seed"]) == (50, 3)


def test_names_come_from_a_dataset_json_a_fingerprint_or_nnunets_file(tmp_path: Path) -> None:
    ours = {"labels": {"0": "background", "1": "left", "2": "right"}}
    theirs = {"labels": {"background": 0, "left": 1, "right": 2}, "channel_names": {"0": "CT"}}
    for number, content in enumerate((ours, theirs)):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_description(folder, content)
        for path in (folder, folder / "dataset.json"):
            assert find_structures(None, str(path)).names == {1: "left", 2: "right"}
    write_fingerprint(make_fingerprint(), tmp_path / "fingerprint.json")
    assert find_structures(None, str(tmp_path)).names == {1: "left", 2: "right"}


def test_masks_and_labels_are_compared_by_the_label_map_of_the_data_set(tmp_path: Path) -> None:
    labels = {"labels": {"0": "background", "1": "left", "2": "right"}}
    write_description(tmp_path, labels | {"label_map": {"205": 1, "420": 2, "421": 2, "9": 0}})
    values = np.zeros((6, 5, 4), np.int16)
    values[:2], values[3:5], values[5] = 205, 420, 421
    mask = np.where(values == 421, 420, values)  # masks hold the first value of each class
    mask[2, 0, 0] = 9
    write_nifti(tmp_path / "label.nii.gz", values)
    write_nifti(tmp_path / "mask.nii.gz", mask)

    structures = find_structures(None, tmp_path)
    pair = MaskPair("case", tmp_path / "mask.nii.gz", tmp_path / "label.nii.gz")

    assert structures.names == {205: "left", 420: "right"}
    assert measure_pair(pair, structures, 2.0)["mean_dice"] == [100, 100]


def test_empty_masks_are_counted_and_named(folders: tuple[Path, Path]) -> None:
    masks, labels = folders
    write_nifti(masks / "ct_1_seg.nii.gz", np.zeros((9, 8, 7), np.uint8), AFFINE)
    write_nifti(labels / "ct_2_label.nii.gz", np.minimum(label_map(11), 1), AFFINE)

    assert evaluate(folders).returncode == 0

    content = results(folders)
    kidney = content["metrics"]["mean_dice"]["structures"]["left kidney"]
    assert (kidney["volumes"][:2], kidney["not_available"]) == ([0, None], 1)
    assert content["absent"] == {
        "liver": {"prediction empty": ["ct_1"]},
        "left kidney": {"prediction empty": ["ct_1"], "truth empty": ["ct_2"]},
    }
    assert "(1 n/a)" in (masks.parent / "results" / "results.md").read_text(encoding="utf-8")


SPOILED: dict[str, tuple[Array, Array, str]] = {  # mask, affine and what is said about it
    "moved": (label_map(1), diagonal_affine((0.8, 1.5, 3.0), (-30, 20, 101)), "0.33 voxels away"),
    "flipped": (label_map(1), AFFINE @ np.diag([-1.0, 1, 1, 1]), "voxels away"),
    "cropped": (label_map(1)[:-1], AFFINE, "its shape (8, 8, 7) is not that of"),
    "stacked": (np.stack([label_map(1)] * 2, axis=-1), AFFINE, "its shape (9, 8, 7, 2) is not that of"),
    "renumbered": (label_map(1) * 4, AFFINE, "holds the value 4, which no structure has: the structures are 1 (liver)"),
    "negative": (-label_map(1, "int16"), AFFINE, "which no structure has"),
    "probable": (label_map(1, "float32") * 0.3, AFFINE, "not whole"),
    "missing_values": (np.where(label_map(1) == 2, np.nan, 1).astype(np.float32), AFFINE, "NaN"),
    "complex": (label_map(1, "complex64"), AFFINE, "complex numbers or colors"),
}


def test_bad_pairs_are_named_and_the_others_are_measured(folders: tuple[Path, Path]) -> None:
    masks, labels = folders
    for name, (mask, affine, _) in SPOILED.items():
        write_nifti(masks / f"{name}_seg.nii.gz", mask, affine)
        write_nifti(labels / f"{name}.nii.gz", label_map(2), AFFINE)
    parts = {name: part for name, (_, _, part) in SPOILED.items()}
    write_nifti(labels / "alone.nii.gz", label_map(2), AFFINE)
    write_nifti(labels / "doubled.nii.gz", label_map(2), AFFINE)
    for ending in ("seg", "pred"):
        write_nifti(masks / f"doubled_{ending}.nii.gz", label_map(1), AFFINE)
    cut = write_nifti(masks / "cut.nii.gz", label_map(1), AFFINE)
    cut.write_bytes(cut.read_bytes()[:-20])
    write_nifti(labels / "cut.nii.gz", label_map(2), AFFINE)
    parts |= {"alone": "no mask", "doubled": "are masks for one label", "cut": "cannot be read"}

    result = evaluate(folders)

    assert result.returncode == 1
    *said, last = errors(result)
    assert last == f"error: {len(parts)} of {len(parts) + 3} cases could not be measured."
    assert [line.split(": ")[1] for line in said] == sorted(parts)
    for line, (name, part) in zip(said, sorted(parts.items()), strict=True):
        assert part in line
        assert name in line.removeprefix(f"error: {name}: ")  # the file
        assert line.endswith(".")
    content = results(folders)
    assert content["volumes"] == list(CASES)
    assert sorted(content["failed"]) == sorted(parts)
    assert "12 more could not be measured" in (masks.parent / "results" / "results.tex").read_text(encoding="utf-8")


def test_a_label_with_an_unknown_value_or_a_sheared_grid_is_named(folders: tuple[Path, Path]) -> None:
    masks, labels = folders
    sheared = AFFINE.copy()
    sheared[1, 2] = 1.0
    write_nifti(labels / "ct_1_label.nii.gz", label_map(10) * 3, AFFINE)
    for path in (masks / "ct_3_seg.nii.gz", labels / "ct_3_label.nii.gz"):
        write_nifti(path, label_map(2), sheared)

    said = errors(evaluate(folders))

    assert "ct_1_label.nii.gz: it holds the value 3" in said[0]
    assert "ct_3_label.nii.gz: its grid is sheared" in said[1]


def test_nothing_is_written_where_every_pair_fails(folders: tuple[Path, Path]) -> None:
    result = evaluate(folders, structures="7:spleen")

    assert result.returncode == 1
    assert len(errors(result)) == 4
    assert not list((folders[0].parent / "results").iterdir())


def test_masks_without_a_label_are_left_out_with_a_note(folders: tuple[Path, Path]) -> None:
    write_nifti(folders[0] / "ct_9_seg.nii.gz", label_map(9), AFFINE)

    result = evaluate(folders)

    assert result.returncode == 0
    assert "Masks without a label, left out: 1," in result.stdout
    assert "ct_9_seg.nii.gz" in result.stdout


@pytest.mark.parametrize(
    ("structures", "part"),
    [
        ("liver", "'liver'"),
        ("1:liver,1:spleen", "'1:spleen' repeats"),
        ("1:liver,2:liver", "'2:liver' repeats"),
        ("0:background", "background only"),
        ("70000:liver", "'70000:liver'"),
        ("1:", "'1:'"),
        ("-1:liver", "'-1:liver'"),
        (None, "neither is given"),
    ],
)
def test_structures_of_another_form_are_refused(structures: str | None, part: str) -> None:
    assert part in refusal(lambda: find_structures(structures, None))


def test_a_folder_that_names_no_structure_is_refused(tmp_path: Path) -> None:
    assert "both are given" in refusal(lambda: find_structures(STRUCTURES, tmp_path))
    assert str(tmp_path) in refusal(lambda: find_structures(None, tmp_path))
    write_description(tmp_path, {"name": "without labels"})
    assert "'labels' is missing" in refusal(lambda: find_structures(None, tmp_path))


@pytest.mark.parametrize(
    ("option", "part"),
    [("--tolerance_mm=0", "--tolerance_mm"), ("--resamples=many", "--resamples"), ("--tolerance=2", "--tolerance")],
)
def test_bad_options_are_refused_before_any_work(option: str, part: str, folders: tuple[Path, Path]) -> None:
    assert_refused(evaluate(folders, option), part)
    assert not (folders[0].parent / "results").exists()


def test_folders_whose_names_do_not_fit_are_refused(folders: tuple[Path, Path]) -> None:
    masks, _ = folders
    for path in masks.iterdir():
        path.rename(masks / f"other_{path.name}")

    assert_refused(evaluate(folders), "other_ct_1_seg.nii.gz", "ct_1_label.nii.gz")


def test_names_of_structures_may_hold_spaces_and_the_background() -> None:
    assert parse_structures("0:background, 2: left kidney ,1:liver") == {2: "left kidney", 1: "liver"}


@pytest.mark.slow
def test_masks_of_inference_score_as_the_evaluation_of_their_model(
    phantom: Path, trained: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model_dir": trained, "dataset_dir": phantom}
    run_bundle("evaluating", ["train.yaml", "evaluate.yaml"], output_dir=tmp_path / "evaluated", **options)
    options["dataset_dir"] = phantom / "ct_images"
    run_bundle("inference", ["inference.yaml"], output_dir=tmp_path / "masks", **options)
    for path in (phantom / "ct_labels").glob("ct_test*"):
        (tmp_path / "labels").mkdir(exist_ok=True)
        shutil.copy2(path, tmp_path / "labels")

    run_script(
        "evaluate_masks.py",
        *(str(tmp_path / "masks"), str(tmp_path / "labels"), f"--dataset_dir={trained}"),
        f"--output_dir={tmp_path / 'measured'}",
    )

    evaluated, measured = (read_json(tmp_path / name / "results.json") for name in ("evaluated", "measured"))
    assert [f"{name}.nii.gz" for name in measured["volumes"]] == evaluated["volumes"]
    for name, metric in evaluated["metrics"].items():
        for structure, entry in metric["structures"].items():
            again = measured["metrics"][name]["structures"][structure]
            assert again["volumes"] == [
                None if value is None else pytest.approx(value, abs=1e-4) for value in entry["volumes"]
            ]
