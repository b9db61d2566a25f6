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
NO_EXAMPLE = np.full(48, -1)


def test_scans_of_one_distribution_resemble_each_other() -> None:
    found, weights = compare(IMITATED, SOURCES, NO_EXAMPLE, RNG.normal(0, 1, (30, 20)))
    assert found.effective_scans > 30
    assert found.effective_scans == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert not found.doubt


@pytest.mark.parametrize("targets", [5, 10, 30])
def test_the_auroc_of_scans_of_one_distribution_is_a_half_on_average(targets: int) -> None:
    rng = np.random.default_rng(targets)
    drawn = [rng.normal(0, 1, (48 + targets, 20)) for _ in range(30)]
    found = [compare(each[:48], SOURCES, NO_EXAMPLE, each[48:], seed)[0].auroc for seed, each in enumerate(drawn)]
    assert np.mean(np.array(found, dtype=float)) == pytest.approx(0.5, abs=0.07)


def test_a_classifier_never_judges_scans_whose_example_it_has_seen() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(0, 3, (12, 20))
    examples = np.arange(48) % 12
    styled = target[examples] + rng.normal(0, 0.1, (48, 20)) + 0.5
    shared = compare(styled, SOURCES, examples, target)[0].auroc
    leaked = compare(styled, SOURCES, NO_EXAMPLE, target)[0].auroc
    assert shared is not None
    assert leaked is not None
    assert shared > leaked


def test_scans_of_another_distribution_are_told_apart() -> None:
    found, _ = compare(IMITATED, SOURCES, NO_EXAMPLE, RNG.normal(3, 1, (30, 20)))
    assert found.auroc == pytest.approx(1, abs=0.01)
    assert "does not resemble the target scans (AUROC 1.00)" in found.doubt


def test_imitated_scans_that_look_like_the_target_weigh_more() -> None:
    imitated = IMITATED + np.where(np.arange(48) % 4 == 0, 1.5, 0)[:, None]
    _, weights = compare(imitated, SOURCES, NO_EXAMPLE, RNG.normal(1.5, 1, (30, 20)))
    assert weights[::4].mean() > 5 * np.delete(weights, np.s_[::4]).mean()
    assert 0 <= weights.min() <= weights.max() <= 10


def test_the_odds_of_a_scan_do_not_come_from_its_own_imitations() -> None:
    scattered = np.repeat(RNG.normal(0, 5, (12, 20)), 4, axis=0)  # a classifier that has seen a scan would know it
    found, _ = compare(scattered, SOURCES, NO_EXAMPLE, RNG.normal(0, 5, (12, 20)))
    assert found.auroc is not None
    assert found.auroc < 0.8


def test_too_few_target_scans_are_a_doubt() -> None:
    found, weights = compare(IMITATED, SOURCES, NO_EXAMPLE, IMITATED[:4])
    assert found == Resemblance(4, None, 48.0)
    assert (weights == 1).all()
    assert found.doubt == "4 target scans of training are too few to compare calibration with"


def test_few_effective_scans_are_a_doubt() -> None:
    assert "as many as 6" in Resemblance(20, 0.8, 6.2).doubt


def test_the_range_holds_most_of_its_scans_and_none_beyond_them_whatever_a_few_outliers_are() -> None:
    for pooled in (IMITATED, np.vstack([IMITATED, np.full((1, 20), 30.0)])):
        found = range_of(pooled)
        assert sum(map(found.holds, pooled)) == pytest.approx(0.95 * len(pooled), abs=1)
        assert not found.holds(np.full(20, 12.0))


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
