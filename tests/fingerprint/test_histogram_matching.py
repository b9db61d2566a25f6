"""Histogram matching: the curve from the source's intensities to the target's, and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import refusal, write_nifti
from hypothesis import given
from hypothesis import strategies as st
from sifa.fingerprint.histogram_matching import check_tissue, matching_curve
from sifa.transforms.dictionary import NormalizeIntensityd
from sifa.transforms.intensity import along_curve

INTENSITY: dict[str, dict[str, Any]] = {
    "source": {"mode": "percentiles", "lower": 0, "upper": 100},
    "target": {"mode": "window", "lower": -100.0, "upper": 300.0},
}
TISSUE = {"source": [-0.95, 1], "target": [-0.95, 0.5]}


def mr_and_ct(folder: Path) -> dict[str, list[str]]:
    """Writes two MR volumes (0 to 1000) and two CT volumes: tissue is a fifth of MR in HU, 20 % is bone or air."""
    generator = np.random.default_rng(0)
    images: dict[str, list[str]] = {"source": [], "target": []}
    for number in range(2):
        mr = generator.integers(40, 1001, size=(20, 20, 20))
        mr[0, 0, :2] = 0, 1000
        ct = mr / 5
        ct[:, :2], ct[:, 2:4] = -1000, 900
        for domain, volume in (("source", mr), ("target", ct)):
            path = write_nifti(folder / f"{domain}_{number}.nii.gz", volume.astype(np.float32))
            images[domain].append(str(path))
    return images


def test_each_quantile_of_the_sources_tissue_is_mapped_to_the_same_quantile_of_the_targets(tmp_path: Path) -> None:
    curve = matching_curve(mr_and_ct(tmp_path), INTENSITY, TISSUE)

    mr = np.array([100.0, 250.0, 500.0, 800.0, 990.0])
    expected = (mr / 5 + 100) / 200 - 1  # of the target's window
    found = along_curve(torch.from_numpy(mr / 500 - 1).float(), curve)
    np.testing.assert_allclose(found.numpy(), expected, atol=0.02)
    assert along_curve(torch.tensor([-1.0]), curve).item() == -1
    assert (np.diff(curve["from"]) > 0).all()
    assert (np.diff(curve["to"]) >= 0).all()


@pytest.mark.parametrize("target", [None, 0.5, [1, -1], [0.1], ["a", 1], [-200, 300], [float("nan"), 1], [False, True]])
def test_an_invalid_range_is_refused(target: Any) -> None:
    message = refusal(lambda: check_tissue({"source": [-0.95, 1], "target": target}))
    assert message.startswith("match_intensity is {'source': [-0.95, 1], 'target': ")
    assert "for target as well" in message


@pytest.mark.parametrize("tissue", [[-0.95, 1], "source", {"target": [-0.95, 1]}, True])
def test_a_missing_source_range_is_refused(tissue: Any) -> None:
    assert "for source as well" in refusal(lambda: check_tissue(tissue))


def test_a_volume_without_tissue_is_named(tmp_path: Path) -> None:
    images = mr_and_ct(tmp_path)
    images["target"].append(str(write_nifti(tmp_path / "air.nii.gz", np.full((4, 4, 4), -1000.0))))

    message = refusal(lambda: matching_curve(images, INTENSITY, TISSUE))

    assert message.startswith(str(tmp_path / "air.nii.gz"))
    assert "correct its target" in message


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20))
def test_a_curve_keeps_the_order_of_intensities_and_no_curve_changes_nothing(values: list[float]) -> None:
    image = torch.tensor(values)
    curve = {"from": [-1.0, -0.5, 0.0, 1.0], "to": [-1.0, -0.9, 0.4, 0.6]}

    along = along_curve(image.clone(), curve)

    assert (along[image.argsort()].diff() >= 0).all()
    assert along.abs().max() <= 1
    assert torch.equal(along_curve(image.clone(), None), image)


def test_normalization_applies_the_curve_of_the_fingerprint() -> None:
    intensity = {
        "mode": "window",
        "lower": 0,
        "upper": 100,
        "curve": {"from": [-1.0, 0.0, 1.0], "to": [-1.0, 0.5, 0.6]},
    }
    image = torch.tensor([[-5.0, 0.0, 25.0, 50.0, 75.0, 200.0]])

    result = NormalizeIntensityd("image", intensity)({"image": image})["image"]

    torch.testing.assert_close(result, torch.tensor([[-1.0, -1.0, -0.25, 0.5, 0.55, 0.6]]))
    assert result.dtype == torch.float32
