"""What masks are called under each naming, and that no naming loses a scan, a mask or the way back."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import diagonal_affine, mixed_into, put, read_json, refusal, write_dicom_series, write_nifti
from conftest import run_bundle
from hostile import DICOM_SPACING, SPACING, ct
from sifa.inference.find_scans import find_scans
from sifa.inference.output_names import NAMINGS, base_of, beside

VOLUME = np.zeros((4, 4, 2), np.int16)


def named(root: Path, naming: str) -> dict[str, str]:
    """Returns the scans below `root` with their masks under a naming, both relative to their folders."""
    output = root.parent / "masks"
    return {
        str(Path(item["image"]).relative_to(root)): str(Path(item["mask"]).relative_to(output))
        for item in find_scans(root, output, naming)
    }


def test_nnunet_drops_the_channel_and_mirror_keeps_the_name_of_a_nifti_file(tmp_path: Path) -> None:
    for name in ("a_0000.nii.gz", "deep/b.nii", "c.nrrd", "D.NII.GZ", "e_0001.nii.gz", "_0000.nii"):
        put(tmp_path / "scans" / name)
    write_dicom_series(tmp_path / "scans" / "case_0000", VOLUME)

    assert named(tmp_path / "scans", "nnunet") == {
        "a_0000.nii.gz": "a.nii.gz",
        "deep/b.nii": "deep/b.nii.gz",
        "c.nrrd": "c.nii.gz",
        "D.NII.GZ": "D.nii.gz",
        "e_0001.nii.gz": "e_0001.nii.gz",
        "_0000.nii": "_0000.nii.gz",
        "case_0000": "case.nii.gz",
    }
    assert named(tmp_path / "scans", "mirror") == {
        "a_0000.nii.gz": "a_0000.nii.gz",
        "deep/b.nii": "deep/b.nii",
        "c.nrrd": "c.nii.gz",
        "D.NII.GZ": "D.NII.GZ",
        "e_0001.nii.gz": "e_0001.nii.gz",
        "_0000.nii": "_0000.nii",
        "case_0000": "case_0000.nii.gz",
    }
    assert find_scans(tmp_path / "scans", tmp_path / "masks", "seg") == find_scans(
        tmp_path / "scans", tmp_path / "masks"
    )


@pytest.mark.parametrize("naming", NAMINGS)
def test_series_that_share_a_folder_have_the_same_code_under_every_naming(naming: str, tmp_path: Path) -> None:
    parts = [write_dicom_series(tmp_path / name, np.zeros((4, 4, 3 + len(name)), np.int16)) for name in ("a", "bb")]
    mixed_into(tmp_path / "scans" / "case", *parts)
    items = find_scans(tmp_path / "scans", tmp_path / "masks", naming)
    plain = find_scans(tmp_path / "scans", tmp_path / "masks")
    assert [item["series"] for item in items] == [base_of(Path(item["mask"])) for item in plain]
    assert len({item["mask"] for item in items}) == 2
    assert [base_of(Path(item["mask"])) for item in items] == [item["series"] for item in items]


@pytest.mark.parametrize(
    ("naming", "names"),
    [
        ("nnunet", ("a.nii.gz", "a_0000.nii.gz")),
        ("nnunet", ("a.nii", "a.nii.gz")),
        ("mirror", ("a.nii", "a.nii.gz")),  # the files beside the masks would be one
        ("mirror", ("a.nrrd", "a.nii.gz")),
    ],
)
def test_two_scans_that_would_share_a_mask_are_named(naming: str, names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        put(tmp_path / "scans" / name)
    message = refusal(lambda: find_scans(tmp_path / "scans", tmp_path / "masks", naming))
    for name in names:
        assert str(tmp_path / "scans" / name) in message
    assert len(find_scans(tmp_path / "scans", tmp_path / "masks")) == 2


def test_what_is_skipped_collides_with_nothing(tmp_path: Path) -> None:
    put(tmp_path / "scans" / "a.nii.gz")
    put(tmp_path / "scans" / "a.npz")
    assert len(find_scans(tmp_path / "scans", tmp_path / "masks", "nnunet")) == 2


@pytest.mark.parametrize("naming", ["nnunet", "mirror"])
def test_an_output_folder_in_which_masks_could_be_taken_for_scans_is_refused(naming: str, tmp_path: Path) -> None:
    scan = put(tmp_path / "scans" / "a.nii.gz")
    (tmp_path / "link").symlink_to(tmp_path / "scans")
    for output in (tmp_path / "scans", tmp_path, tmp_path / "link"):
        for root in (tmp_path / "scans", scan):
            assert "could take the place of a scan" in refusal(partial(find_scans, root, output, naming))
        assert find_scans(tmp_path / "scans", output)
    assert find_scans(tmp_path / "scans", tmp_path / "scans" / "masks", naming)


@pytest.mark.parametrize("naming", NAMINGS)
def test_masks_of_an_earlier_run_are_no_scans_of_a_later_one_into_another_folder(naming: str, tmp_path: Path) -> None:
    put(tmp_path / "a.nii.gz")
    for name in ("first", "second"):
        (item,) = find_scans(tmp_path, tmp_path / name, naming)
        mask = Path(item["mask"])
        put(mask), put(beside(mask, "_probabilities.nii.gz")), put(beside(mask, "_uncertainty.nii.gz"))
        case = {"output": mask.name, "input": "a.nii.gz", "status": "ok"}
        put(tmp_path / name / "manifest.json", f'{{"cases": [{case}]}}'.replace("'", '"').encode())


def test_files_beside_a_mask_share_the_beginning_of_its_name() -> None:
    for mask, base in (("a_seg.nii.gz", "a"), ("a.nii.gz", "a"), ("A.NII.GZ", "A"), ("a.nii", "a")):
        assert beside(Path("deep") / mask, "_preview.png") == Path("deep") / f"{base}_preview.png"


# --- The command line -------------------------------------------------------------------------------------------------


def infer(model: Path, scans: Path, output: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    given = {"model_dir": model, "dataset_dir": scans, "output_dir": output, **options}
    return run_bundle("inference", ["inference.yaml"], check=False, **given)


def files(folder: Path) -> dict[str, bytes]:
    """Returns the content of the masks and pictures below a folder, by name, those set aside included."""
    kept = [path for path in folder.rglob("*") if {".nii", ".png"} & set(path.suffixes)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    write_nifti(folder / "deep" / "a_0000.nii", ct(), diagonal_affine(SPACING))
    write_dicom_series(folder / "series", ct((32, 32, 16)), DICOM_SPACING)
    return folder


MASKS = {
    "seg": ("deep/a_0000_seg.nii.gz", "series_seg.nii.gz"),
    "nnunet": ("deep/a.nii.gz", "series.nii.gz"),
    "mirror": ("deep/a_0000.nii", "series.nii.gz"),
}


@pytest.mark.slow
def test_every_naming_gives_the_same_masks_and_knows_them_again(trained: Path, scans: Path, tmp_path: Path) -> None:
    made = {}
    for naming, names in MASKS.items():
        output = tmp_path / naming
        infer(trained, scans, output, naming=naming, previews="True")
        made[naming] = files(output)
        assert set(made[naming]) == {*names, *(str(beside(Path(name), "_preview.png")) for name in names)}
        if naming != "seg":
            again = infer(trained, scans, output, naming=naming, previews="True")
            assert again.stdout.count("already done") == 2
            assert files(output) == made[naming]
        page = (output / "index.html").read_text(encoding="utf-8")
        assert all(str(beside(Path(name), "_preview.png")) in page for name in names)
    for number in (0, 1):
        masks = [made[naming][names[number]] for naming, names in MASKS.items()]
        assert masks[0] == masks[1]
        assert number == 0 or masks[1] == masks[2]  # a .nii is not compressed
    assert [case["input"] for case in read_json(tmp_path / "mirror" / "manifest.json")["cases"]] == [
        "deep/a_0000.nii",
        "series",
    ]


@pytest.mark.slow
def test_a_scan_that_changes_keeps_its_old_mask_aside_and_so_does_another_naming(
    trained: Path, scans: Path, tmp_path: Path
) -> None:
    output = tmp_path / "masks"
    shutil.rmtree(scans / "series")
    infer(trained, scans, output, naming="mirror")
    (before,) = files(output).values()
    write_nifti(scans / "deep" / "a_0000.nii", ct() + 9, diagonal_affine(SPACING))
    infer(trained, scans, output, naming="mirror")
    assert files(output)["deep/a_0000.nii.outdated"] == before
    latest = files(output)["deep/a_0000.nii"]
    infer(trained, scans, output, naming="nnunet")
    assert set(files(output)) == {"deep/a.nii.gz", "deep/a_0000.nii.outdated", "deep/a_0000.nii.outdated.2"}
    assert files(output)["deep/a_0000.nii.outdated.2"] == latest
    (case,) = read_json(output / "manifest.json")["cases"]
    assert (case["output"], case["earlier"]) == (
        "deep/a.nii.gz",
        ["deep/a_0000.nii.outdated", "deep/a_0000.nii.outdated.2"],
    )


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"naming": "bids"}, 2, "--naming bids: choose seg, nnunet or mirror."),
        ({"naming": "mirror", "output_dir": None}, 1, "could take the place of a scan"),
    ],
)
def test_a_naming_that_cannot_be_is_refused_before_anything_is_written(
    options: dict[str, Any], status: int, words: str, trained: Path, scans: Path, tmp_path: Path
) -> None:
    output = scans if "output_dir" in options else tmp_path / "masks"
    before = sorted(scans.rglob("*"))
    result = infer(trained, scans, output, naming=options["naming"])
    assert result.returncode == status
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert words in line
    assert sorted(scans.rglob("*")) == before
    assert not (tmp_path / "masks").exists()
