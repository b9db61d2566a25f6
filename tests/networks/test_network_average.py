"""The mean of several segmenters and of flipped images, against the mean written out."""

from __future__ import annotations

import pytest
import torch
from sifa.networks import NetworkAverage, Segmenter, for_inference

FLIPS = ((), (2,), (3,), (2, 3))


def segmenter(seed: int, width: float = 0.125) -> Segmenter:
    """Returns a small segmenter whose batch norm has seen images."""
    torch.manual_seed(seed)
    network = Segmenter(1, 3, width).train()
    for _ in range(3):
        network(torch.rand(4, 1, 32, 32) * 2 - 1)
    return network.eval()


@pytest.fixture(scope="module")
def networks() -> list[Segmenter]:
    return [segmenter(0), segmenter(1, 0.0625)]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 1, 24, 40, generator=torch.Generator().manual_seed(2)) * 2 - 1


@torch.inference_mode()
def test_the_softmax_of_the_result_is_the_mean_of_the_probabilities(
    networks: list[Segmenter], images: torch.Tensor
) -> None:
    expected = sum(network(images).softmax(1) for network in networks) / 2
    assert torch.allclose(NetworkAverage(networks)(images).softmax(1), expected, atol=1e-6)


@torch.inference_mode()
def test_a_flipped_image_gives_the_flipped_mean(networks: list[Segmenter], images: torch.Tensor) -> None:
    average = NetworkAverage(networks, FLIPS)
    passes = [network(images.flip(axes)).softmax(1).flip(axes) for network in networks for axes in FLIPS]
    assert torch.allclose(average(images).softmax(1), torch.stack(passes).mean(0), atol=1e-6)
    for axes in FLIPS:
        flipped = average(images.flip(axes)).softmax(1)
        assert torch.allclose(flipped, average(images).softmax(1).flip(axes), atol=1e-5)


@torch.inference_mode()
def test_a_certain_network_gives_no_nan() -> None:
    class Certain(torch.nn.Module):
        """Says class 1 without a doubt."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cat([image * 0, image * 0 + 1e9], dim=1)

    probabilities = NetworkAverage([Certain(), Certain()])(torch.zeros(1, 1, 8, 8)).softmax(1)
    assert torch.equal(probabilities[:, 1], torch.ones(1, 8, 8))


@torch.inference_mode()
def test_the_average_is_folded_like_one_network(networks: list[Segmenter], images: torch.Tensor) -> None:
    average = NetworkAverage(networks, FLIPS).eval()
    folded = for_inference(average)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    assert torch.allclose(folded(images).softmax(1), average(images).softmax(1), atol=1e-4)
