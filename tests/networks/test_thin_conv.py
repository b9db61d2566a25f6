"""The convolution between few and many channels: values and gradients of PyTorch's own, up to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sifa.networks.blocks import instance_norm
from sifa.networks.thin_conv import ThinConv2d
from torch import nn

CASES = [(8, 1, 7, 3), (1, 8, 7, 3), (5, 2, 4, 2), (3, 1, 1, 0)]  # channels in and out, kernel, padding


def pair(case: tuple[int, int, int, int], dtype: torch.dtype = torch.float64) -> tuple[nn.Conv2d, nn.Conv2d]:
    channels, out, size, padding = case
    torch.manual_seed(0)
    thin = ThinConv2d(channels, out, size, padding=padding).to(dtype)
    plain = nn.Conv2d(channels, out, size, padding=padding).to(dtype)
    plain.load_state_dict(thin.state_dict())
    return thin, plain


def image_for(layer: nn.Conv2d) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, layer.in_channels, 9, 12, dtype=torch.float64, generator=generator)
    return image.to(layer.weight.dtype).requires_grad_()


@pytest.mark.parametrize("case", CASES)
def test_output_and_all_gradients_are_those_of_the_plain_convolution(case: tuple[int, int, int, int]) -> None:
    thin, plain = pair(case)
    image = image_for(thin)
    outputs = [layer(image) for layer in (thin, plain)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    weights = torch.randn_like(outputs[0])
    found = [
        torch.autograd.grad((output * weights).sum(), [image, *layer.parameters()])
        for output, layer in zip(outputs, (thin, plain), strict=True)
    ]
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", CASES[:2])
def test_the_gradient_is_that_of_finite_differences(case: tuple[int, int, int, int]) -> None:
    thin, _ = pair(case)
    assert torch.autograd.gradcheck(thin, (image_for(thin),))


@pytest.mark.parametrize("wanted", ["image", "weight"])
def test_only_the_gradients_that_are_asked_for_are_computed(wanted: str) -> None:
    thin, _ = pair(CASES[0])
    image = image_for(thin)
    thin(image).sum().backward(inputs=[image if wanted == "image" else thin.weight])
    assert (image.grad is not None) == (wanted == "image")
    assert (thin.weight.grad is not None) == (wanted == "weight")
    assert thin.bias is not None
    assert thin.bias.grad is None


def test_under_autocast_it_computes_in_half_precision_as_the_plain_convolution_does() -> None:
    thin, plain = pair(CASES[0], torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        actual, expected = (layer(image_for(layer)) for layer in (thin, plain))
    assert actual.dtype is torch.bfloat16
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 6, 8, 8)])
def test_the_norm_of_generators_and_discriminators_is_instance_norm(shape: tuple[int, ...]) -> None:
    norm: Any = instance_norm(shape[1]).double()
    reference = nn.InstanceNorm2d(shape[1], affine=True).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    reference.load_state_dict(norm.state_dict())
    image = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(norm(image), reference(image), rtol=0, atol=1e-12)
