"""Masks alone: its two losses, the straight-through arg max, and that source images are never read."""

from __future__ import annotations

import copy

import pytest
import torch
from iterations import CLASSES, draw_batch
from methods import build, gradients, spy_on_gradients, state, step
from sifa.adaptation.masks_alone import straight_through, unexplained_variance
from torch.nn.functional import one_hot

BATCH = draw_batch(0)


def masks(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, CLASSES, 6, 5, dtype=torch.float64, generator=generator).softmax(dim=1)


def test_a_step_minimizes_the_restated_losses() -> None:
    method = build("masks_alone")
    seen = {name: spy_on_gradients(optimizer) for name, optimizer in method.optimizers.items()}
    segmenter, discriminator = (copy.deepcopy(network).train() for network in method.networks.values())
    image = BATCH["target_image"]
    p = segmenter(image).softmax(dim=1)
    q = (one_hot(p.argmax(1), CLASSES).movedim(-1, 1) - p).detach() + p
    variance = 0.0
    for one, x in zip(p, image, strict=True):
        total = ((x - x.mean()) ** 2).sum()
        for share in one:
            mean = (share * x[0]).sum() / share.sum()
            variance = variance + (share * (x[0] - mean) ** 2).sum() / total / len(p)
    loss = ((discriminator(q) - 1) ** 2).mean() + variance
    truth = one_hot(BATCH["source_label"][:, 0].long(), CLASSES).movedim(-1, 1).double()
    expected = 0.5 * (((discriminator(truth) - 1) ** 2).mean() + (discriminator(q.detach()) ** 2).mean())

    output = step(method, BATCH)
    for name, network, one in (("segmenter", segmenter, loss), ("mask_discriminator", discriminator, expected)):
        for actual, gradient in zip(seen[name][0], gradients(one, network), strict=True):
            torch.testing.assert_close(actual, gradient, rtol=1e-8, atol=1e-12)
    assert output["loss"].item() == pytest.approx(float(loss))


def test_the_straight_through_mask_is_one_hot_and_has_the_gradient_of_the_probabilities() -> None:
    p = masks().requires_grad_()
    q = straight_through(p)
    torch.testing.assert_close(q, one_hot(p.argmax(1), CLASSES).movedim(-1, 1).double(), rtol=0, atol=1e-12)
    weights = torch.randn_like(p)
    (gradient,) = torch.autograd.grad((q * weights).sum(), p)
    assert torch.equal(gradient, weights)


def test_a_mask_of_constant_regions_explains_all_of_the_variance_and_a_uniform_one_nothing() -> None:
    label = masks().argmax(1)
    hard = one_hot(label, CLASSES).movedim(-1, 1).double()
    image = torch.tensor([0.3, -0.7, 0.9], dtype=torch.float64)[label][:, None]
    assert unexplained_variance(hard, image).item() == pytest.approx(0, abs=1e-12)
    assert unexplained_variance(torch.full_like(hard, 1 / CLASSES), image).item() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_the_unexplained_share_is_between_0_and_1_and_does_not_depend_on_the_scale(seed: int) -> None:
    p, image = masks(seed), torch.rand(2, 1, 6, 5, dtype=torch.float64)
    share = unexplained_variance(p, image)
    assert 0 <= share.item() <= 1
    torch.testing.assert_close(unexplained_variance(p, 3 * image - 1), share)


def test_a_constant_image_has_a_finite_share() -> None:
    assert unexplained_variance(masks(), torch.zeros(2, 1, 6, 5, dtype=torch.float64)).item() == 0


def test_source_images_are_never_read() -> None:
    method, other = build("masks_alone"), build("masks_alone")
    step(method, BATCH)
    step(other, BATCH | {"source_image": torch.full_like(BATCH["source_image"], float("nan"))})
    first, second = state(method.networks), state(other.networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
