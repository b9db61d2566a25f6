"""Hidden padding: neither values nor gradients of what networks make of it reach a loss."""

from __future__ import annotations

import torch
from sifa.adaptation.hidden_padding import hide_in_image, hide_in_label, hide_in_logits
from sifa.adaptation.losses import SegmentationLoss

INSIDE = torch.tensor([[[[True, True, False], [True, False, False]]]])


def test_padding_is_air_in_images_and_carries_no_gradient() -> None:
    image = torch.rand(1, 1, 2, 3, requires_grad=True)
    hidden = hide_in_image(image, INSIDE)
    assert torch.equal(hidden[INSIDE], image[INSIDE])
    assert (hidden[~INSIDE] == -1).all()
    hidden.sum().backward()
    assert image.grad is not None
    assert torch.equal(image.grad, INSIDE.float())


def test_padding_is_surely_background_in_logits_and_labels() -> None:
    logits = torch.rand(1, 3, 2, 3, requires_grad=True)
    hidden = hide_in_logits(logits, INSIDE)
    outside = ~INSIDE.expand_as(logits)
    assert torch.equal(hidden[~outside], logits[~outside])
    assert (hidden.softmax(dim=1)[:, :1][~INSIDE] > 0.9999).all()
    label = hide_in_label(torch.full((1, 1, 2, 3), 2), INSIDE)
    assert torch.equal(label, torch.where(INSIDE, 2, 0))


def test_the_segmentation_loss_does_not_depend_on_what_the_network_says_about_padding() -> None:
    loss, label = SegmentationLoss(1.0), torch.where(INSIDE, 1, 0)
    one = torch.randn(1, 3, 2, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    other = torch.where(INSIDE, one.detach(), 7.0).requires_grad_()
    values = [loss(hide_in_logits(logits, INSIDE), label) for logits in (one, other)]
    assert torch.equal(values[0], values[1])
    values[0].backward()
    assert one.grad is not None
    assert (one.grad[~INSIDE.expand_as(one)] == 0).all()
    assert (one.grad[INSIDE.expand_as(one)] != 0).all()


def test_without_padding_nothing_changes() -> None:
    image = torch.rand(1, 1, 2, 3)
    assert hide_in_image(image, None) is image
    assert hide_in_logits(image, None) is image
    assert hide_in_label(image, None) is image
