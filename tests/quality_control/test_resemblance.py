"""How much imitated scans look like target scans: the classifier's verdict, weights, and the range of latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sifa.networks.segmenter import Segmenter
from sifa.quality_control.resemblance import Resemblance, compare, pool_latents, range_of

RNG = np.random.default_rng(0)
SOURCES = np.arange(48) // 4
IMITATED = RNG.normal(0, 1, (48, 20))


def test_scans_of_one_distribution_resemble_each_other() -> None:
    found, weights = compare(IMITATED, SOURCES, RNG.normal(0, 1, (30, 20)))
    assert found.auroc == pytest.approx(0.5, abs=0.2)
    assert found.effective_scans > 30
    assert found.effective_scans == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert not found.doubt


def test_scans_of_another_distribution_are_told_apart() -> None:
    found, _ = compare(IMITATED, SOURCES, RNG.normal(3, 1, (30, 20)))
    assert found.auroc == pytest.approx(1, abs=0.01)
    assert "do not resemble the target scans (AUROC 1.00)" in found.doubt


def test_imitated_scans_that_look_like_the_target_weigh_more() -> None:
    imitated = IMITATED + np.where(np.arange(48) % 4 == 0, 1.5, 0)[:, None]
    _, weights = compare(imitated, SOURCES, RNG.normal(1.5, 1, (30, 20)))
    assert weights[::4].mean() > 5 * np.delete(weights, np.s_[::4]).mean()
    assert 0 <= weights.min() <= weights.max() <= 10


def test_the_odds_of_a_scan_do_not_come_from_its_own_imitations() -> None:
    scattered = np.repeat(RNG.normal(0, 5, (12, 20)), 4, axis=0)  # a classifier that has seen a scan would know it
    found, _ = compare(scattered, SOURCES, RNG.normal(0, 5, (12, 20)))
    assert found.auroc is not None
    assert found.auroc < 0.8


def test_too_few_target_scans_are_a_doubt() -> None:
    found, weights = compare(IMITATED, SOURCES, IMITATED[:4])
    assert found == Resemblance(4, None, 48.0)
    assert (weights == 1).all()
    assert found.doubt == "4 target scans are too few to compare imitated scans with"


def test_few_effective_scans_are_a_doubt() -> None:
    assert "as many as 6" in Resemblance(20, 0.8, 6.2).doubt


def test_the_range_holds_its_own_scans_and_no_scan_beyond_them() -> None:
    found = range_of(IMITATED)
    assert all(map(found.holds, IMITATED))
    assert not found.holds(np.full(20, 5.0))


def test_latents_are_pooled_over_tissue_alone() -> None:
    torch.manual_seed(0)
    network = Segmenter(1, 3, 0.125).eval()
    images = torch.rand(3, 1, 64, 64) * 2 - 1
    pooled = pool_latents(network, images, 2)
    with torch.no_grad():
        latents = network.encoder(images)
    expected = torch.cat([latents.mean((0, 2, 3)), latents.std((0, 2, 3), correction=0)])
    assert torch.allclose(torch.from_numpy(pooled).float(), expected, atol=1e-5)
    images[:, :, :, :32] = -1
    with torch.no_grad():
        latents = network.encoder(images)[..., 4:]
    expected = torch.cat([latents.mean((0, 2, 3)), latents.std((0, 2, 3), correction=0)])
    assert torch.allclose(torch.from_numpy(pool_latents(network, images, 2)).float(), expected, atol=1e-5)


def test_slices_of_any_size_are_pooled() -> None:
    network = Segmenter(1, 3, 0.125).eval()
    assert pool_latents(network, torch.rand(2, 1, 29, 35), 8).shape == (2 * network.encoder.out_channels,)
