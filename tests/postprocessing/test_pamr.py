"""Refinement of labels: the formula restated, and outlines that move to edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sifa.postprocessing.pamr import refine_with_pamr

PLACES = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def restated(probabilities: np.ndarray, image: np.ndarray, dilations: tuple[int, ...], contrast: float) -> np.ndarray:
    """One step, pixel by pixel, of (K, H, W) and (C, H, W)."""
    _, height, width = image.shape
    result = np.zeros_like(probabilities)
    for row, column in np.ndindex(height, width):
        at = [
            (min(max(row + d * down, 0), height - 1), min(max(column + d * right, 0), width - 1))
            for d in dilations
            for down, right in PLACES
        ]
        differences = np.array([np.abs(image[:, r, c] - image[:, row, column]).mean() for r, c in at])
        weights = np.exp(-differences / contrast)
        weights /= weights.sum()
        result[:, row, column] = sum(
            weight * probabilities[:, r, c] for weight, (r, c) in zip(weights, at, strict=True)
        )
    return result


@pytest.mark.parametrize(("channels", "dilations"), [(1, (1, 2)), (2, (1,)), (1, (3,))])
def test_every_step_is_the_mean_of_the_neighbors_weighted_by_likeness(channels: int, dilations: tuple[int]) -> None:
    probabilities, image = draw(2, 3, 7, 9).softmax(1), 2 * draw(2, channels, 7, 9, seed=1) - 1
    expected = probabilities.numpy()
    for _ in range(2):
        expected = np.stack([restated(*pair, dilations, 0.3) for pair in zip(expected, image.numpy(), strict=True)])
    found = refine_with_pamr(probabilities, image, iterations=2, dilations=dilations, contrast=0.3)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_probabilities_stay_probabilities() -> None:
    found = refine_with_pamr(draw(2, 4, 16, 16).softmax(1), 2 * draw(2, 1, 16, 16, seed=1) - 1)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 16, 16, dtype=torch.float64))
    assert (found >= 0).all()


def test_no_step_leaves_everything_as_it_is() -> None:
    probabilities = draw(1, 2, 8, 8).softmax(1)
    assert torch.equal(refine_with_pamr(probabilities, draw(1, 1, 8, 8, seed=1), iterations=0), probabilities)


@pytest.mark.parametrize("shift", [-3, -2, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_an_outline_beside_an_edge_of_a_noisy_image_moves_to_it(shift: int, seed: int) -> None:
    inside = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    inside[..., 9:23, 9:23] = True
    noise = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    image = torch.where(inside, 0.5, -0.3) + 0.05 * noise
    labeled = torch.zeros_like(inside)
    labeled[..., 9 + shift : 23 + shift, 9:23] = True
    probabilities = torch.cat([~labeled, labeled], dim=1) * 0.8 + 0.1
    refined = refine_with_pamr(probabilities, image).argmax(1, keepdim=True) == 1
    wrong_before, wrong_after = ((found != inside).sum().item() for found in (labeled, refined))
    assert wrong_after < 0.35 * wrong_before
