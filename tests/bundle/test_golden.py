"""The masks of the shipped weights on two generated scans are those in golden.json, voxel for voxel.

Where a change of the masks is intended, `PYTHONPATH=tests .venv/bin/python tests/bundle/test_golden.py` writes the
reference again. It holds for each scan Dice (%) and volume (ml) of each structure and the mask (zlib, base64), all of
generated data.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import generate_phantom, run_bundle
from sifa.io.nifti_files import load_nifti

GOLDEN = Path(__file__).with_name("golden.json")
DATA = {"source_training": 1, "source_validation": 0, "target_training": 1, "target_validation": 0, "target_test": 2}
MOST_VOXELS = 5  # that may differ in a scan, since processors round differently


def segment(folder: Path) -> dict[str, dict[str, Any]]:
    """Generates scans, segments them with the shipped weights and returns mask, Dice and volumes by scan."""
    generate_phantom(folder / "data", **DATA, seed=0, spacing=2.5)
    scans = folder / "data" / "ct_images"
    run_bundle("inference", ["inference.yaml"], dataset_dir=scans, output_dir=folder / "masks", device="cpu")
    cases = json.loads((folder / "masks" / "manifest.json").read_text(encoding="utf-8"))["cases"]
    volumes = {case["input"]: case["volumes_ml"] for case in cases}
    return {
        truth.name: {
            "mask": np.asarray(load_nifti(folder / "masks" / truth.name.replace(".nii", "_seg.nii")).dataobj),
            "truth": np.asarray(load_nifti(truth).dataobj),
            "volumes_ml": volumes[truth.name],
        }
        for truth in sorted((folder / "data" / "ct_labels").iterdir())
    }


def dice(mask: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Returns Dice in percent by label value."""
    return {
        str(value): round(200 * float(((mask == value) & (truth == value)).sum() / ((mask == value).sum() + size)), 2)
        for value, size in zip(*np.unique(truth[truth > 0], return_counts=True), strict=True)
    }


def pack(mask: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(mask.tobytes(), 9)).decode()


def unpack(text: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return segment(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, Any]]:
    return dict(json.loads(GOLDEN.read_text(encoding="utf-8")))


def test_masks_are_those_of_the_reference(found: dict[str, dict[str, Any]], golden: dict[str, dict[str, Any]]) -> None:
    assert found.keys() == golden.keys()
    for name, scan in found.items():
        expected = unpack(golden[name]["mask"], scan["mask"].shape)
        assert (scan["mask"] != expected).sum() <= MOST_VOXELS, name


def test_dice_and_volumes_are_those_of_the_reference(
    found: dict[str, dict[str, Any]], golden: dict[str, dict[str, Any]]
) -> None:
    for name, scan in found.items():
        assert dice(scan["mask"], scan["truth"]) == pytest.approx(golden[name]["dice"], abs=0.3), name
        assert scan["volumes_ml"] == pytest.approx(golden[name]["volumes_ml"], abs=0.5), name
        assert min(golden[name]["dice"].values()) > 50  # the reference itself resembles the truth


def test_exchanged_classes_and_a_mirrored_axis_would_be_noticed(golden: dict[str, dict[str, Any]], found: Any) -> None:
    for name, scan in found.items():
        mask = scan["mask"]
        exchanged = np.array([0, 2, 1, 3, 4], np.uint8)[mask]
        for wrong in (exchanged, *(np.flip(mask, axis) for axis in range(3))):
            assert (wrong != unpack(golden[name]["mask"], mask.shape)).sum() > 100 * MOST_VOXELS
            assert dice(wrong, scan["truth"]) != pytest.approx(golden[name]["dice"], abs=10)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        content = {
            name: {
                "dice": dice(scan["mask"], scan["truth"]),
                "volumes_ml": scan["volumes_ml"],
                "mask": pack(scan["mask"]),
            }
            for name, scan in segment(Path(folder)).items()
        }
    GOLDEN.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {GOLDEN}", file=sys.stderr)
