"""Variants of one scan in a folder: each is listed, none stops the others, and no mask is wrong without a warning.

`FUZZ_INPUTS=1000 pytest tests/inference/test_fuzz.py` tries more of them than CI does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from builders import Array, read_json
from conftest import run_bundle
from fuzz import Variant, is_another_scan, variants
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sifa.io.nifti_files import load_nifti

INPUTS = int(os.environ.get("FUZZ_INPUTS", "100"))
AT_ONCE = 25  # inputs of a folder
SAID = ("warning", "failed", "skipped")
ALIKE = 0.999  # share of equal voxels: other storage orders round at other places

pytestmark = pytest.mark.slow


def canonical(path: Path) -> tuple[Array, Array]:
    image: Any = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj), image.affine


def differs(mask: Path, plain: Path) -> bool:
    """Returns whether two masks differ in the patient's space."""
    (values, affine), (expected, place) = canonical(mask), canonical(plain)
    if values.shape != expected.shape or not np.allclose(affine, place, atol=0.05):
        return True
    return bool(np.mean(values == expected) < ALIKE)


@pytest.fixture(scope="module")
def plain(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A generated CT scan as a plain NIfTI file, and its mask by the shipped weights."""
    folder = tmp_path_factory.mktemp("plain")
    image = nib.as_closest_canonical(load_nifti(phantom / "ct_images" / "ct_test_000.nii.gz"))
    (folder / "scans").mkdir()
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj).astype(np.int16), image.affine), folder / "scans" / "plain.nii")
    run_bundle("inference", ["inference.yaml"], dataset_dir=folder / "scans", output_dir=folder / "masks")
    return folder / "scans" / "plain.nii", folder / "masks" / "plain_seg.nii.gz"


def problems(variant: Variant, folder: Path, cases: list[dict[str, Any]], plain: tuple[Path, Path]) -> list[str]:
    """Returns what is wrong with the cases of a variant."""
    scan: Any = nib.load(plain[0])
    found = []
    if not cases:
        found.append("it is not in the manifest")
    if variant.same and [case["status"] in ("failed", "skipped") for case in cases] != [False]:
        found.append("a good scan is lost")
    for case in cases:
        if case["status"] in SAID and not (variant.same and case["output"]):
            if not case["message"]:
                found.append("no reason is given")
            continue
        if variant.free or not differs(plain[1].parent / case["mask"], plain[1]):
            continue
        files = [path for path in folder.iterdir() if path.suffix in (".nii", ".gz")]
        if files and not variant.same and is_another_scan(files[0], np.asarray(scan.dataobj), scan.affine):
            continue
        found.append(f"its mask differs without a word ({case['status']})")
    return [f"{variant.description}: {problem}: {cases}" for problem in found]


def test_every_variant_is_listed_and_no_mask_is_wrong_without_a_warning(
    plain: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    scan: Any = nib.load(plain[0])
    volume, affine = np.asarray(scan.dataobj), scan.affine
    counts: dict[str, int] = {}
    found: list[str] = []

    @settings(
        max_examples=max(1, INPUTS // AT_ONCE),
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.lists(variants(volume, affine), min_size=AT_ONCE, max_size=AT_ONCE))
    def segment(batch: list[Variant]) -> None:
        root = tmp_path_factory.mktemp("fuzz")
        for number, variant in enumerate(batch):
            folder = root / "scans" / f"{number:03d}"
            folder.mkdir(parents=True)
            variant.build(folder)
        result = run_bundle(
            "inference", ["inference.yaml"], dataset_dir=root / "scans", output_dir=root / "masks", check=False
        )
        assert "Traceback" not in result.stderr + result.stdout, result.stderr[-3000:]
        assert result.returncode in (0, 1), result.stderr[-3000:]
        manifest = read_json(root / "masks" / "manifest.json")
        for status, number in manifest["counts"].items():
            counts[status] = counts.get(status, 0) + number
        assert (result.returncode == 1) == (manifest["counts"]["failed"] > 0)
        for number, variant in enumerate(batch):
            cases = [
                {**case, "mask": root / "masks" / (case["output"] or "")}
                for case in manifest["cases"]
                if case["input"].startswith(f"{number:03d}/")
            ]
            for case in cases:
                for name in ("quality", "volumes_ml", "flags", "settings", "signature", "extras", "folder", "model"):
                    case.pop(name, None)
            found.extend(problems(variant, root / "scans" / f"{number:03d}", cases, plain))

    segment()
    print(f"{sum(counts.values())} cases: {counts}; {len(found)} problems")  # shown with -s
    assert not found, "\n".join(found)
