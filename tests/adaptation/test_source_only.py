"""One iteration without adaptation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import Trainer
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.source_only import SourceOnly
from sifa.networks import Segmenter
from sifa.training.iteration_update import EVENTS, IterationUpdate

CLASSES = 3
RATE = 0.1


def build_segmenter(seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    segmenter = Segmenter(1, CLASSES, 1 / 32)
    for layer in segmenter.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()  # the networks' own start is too flat to show a slip in a few steps
    return segmenter.double()


def draw_batch(seed: int = 0, target: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch = {
        "source_image": 2 * torch.rand(2, 1, 16, 32, dtype=torch.float64, generator=generator) - 1,
        "source_label": torch.randint(CLASSES, (2, 1, 16, 32), dtype=torch.uint8, generator=generator),
    }
    return batch | {"target_image": torch.full((2, 1, 16, 32), float("nan"))} if target else batch


def train(segmenter: Segmenter, batches: list[dict[str, torch.Tensor]]) -> tuple[Trainer, list[dict[str, Any]]]:
    """Runs one epoch of a stock trainer with SGD; returns it and the outputs of its iterations."""
    update = IterationUpdate(
        SourceOnly(segmenter, torch.optim.SGD(segmenter.parameters(), lr=RATE), SegmentationLoss(0.5))
    )
    trainer = Trainer("cpu", max_epochs=1, data_loader=batches, iteration_update=update, decollate=False)
    outputs: list[dict[str, Any]] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(dict(engine.state.output)))
    trainer.run()
    return trainer, outputs


def restated_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Cross-entropy weighted by 1 - frequency, mean over pixels, + 0.5 * (1 - mean Dice)."""
    p = logits.softmax(1)
    g = torch.stack([(label[:, 0] == k).double() for k in range(CLASSES)], dim=1)
    weights = 1 - g.mean((0, 2, 3), keepdim=True)
    cross_entropy = -(weights * g * p.log()).sum(1).mean()
    dice = 2 * (p * g).sum((0, 2, 3)) / ((p * p).sum((0, 2, 3)) + (g * g).sum((0, 2, 3)) + 1e-7)
    return cross_entropy + 0.5 * (1 - dice.mean())


def test_iterations_follow_the_restated_loss_and_move_all_of_e_and_c() -> None:
    segmenter = build_segmenter().eval()  # a validation in between would leave it so
    start = copy.deepcopy(segmenter)
    reference = copy.deepcopy(segmenter).train()
    batches = [draw_batch(0), draw_batch(1)]
    _, outputs = train(segmenter, batches)
    for batch, output in zip(batches, outputs, strict=True):
        logits = reference.pixel_classifier(reference.encoder(batch["source_image"]))
        loss = restated_loss(logits, batch["source_label"])
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(reference.parameters(), gradients, strict=True):
                parameter.sub_(RATE * gradient)
        assert output["loss"].item() == pytest.approx(loss.item(), rel=1e-10)
        assert output["segmentation"].item() == output["loss"].item()
        torch.testing.assert_close(output["pred"], logits.detach(), rtol=0, atol=1e-9)
    for name, value in segmenter.state_dict().items():  # batch norm's running statistics among them
        torch.testing.assert_close(value, reference.state_dict()[name], rtol=0, atol=1e-9)
        assert not torch.equal(value, start.state_dict()[name]), f"{name} did not move"


def test_the_output_is_plain_tensors_without_gradient() -> None:
    _, outputs = train(build_segmenter(), [draw_batch()])
    assert set(outputs[0]) == {
        *("loss", "segmentation", "pred"),
        *("segmenter_loss", "segmenter_gradient_norm", "segmenter_learning_rate"),
    }
    assert all(type(key) is str for key in outputs[0])
    for value in outputs[0].values():
        assert type(value) is torch.Tensor
        assert not value.requires_grad


def test_the_four_events_fire_once_an_iteration() -> None:
    segmenter = build_segmenter()
    update = IterationUpdate(
        SourceOnly(segmenter, torch.optim.SGD(segmenter.parameters(), lr=RATE), SegmentationLoss(1))
    )
    trainer = Trainer("cpu", max_epochs=2, data_loader=[draw_batch()] * 2, iteration_update=update, decollate=False)
    fired: list[tuple[str, int]] = []
    for event in EVENTS:
        trainer.add_event_handler(event, lambda e, name: fired.append((name, e.state.iteration)), event.value)
    trainer.run()
    assert fired == [(event.value, iteration) for iteration in (1, 2, 3, 4) for event in EVENTS]


def test_target_images_in_the_batch_are_not_looked_at() -> None:
    with_target, without_target = build_segmenter(), build_segmenter()
    train(with_target, [draw_batch(0, target=True)])
    train(without_target, [draw_batch(0)])
    for name, value in with_target.state_dict().items():
        assert torch.equal(value, without_target.state_dict()[name])


def test_repeated_iterations_on_one_batch_lower_the_loss() -> None:
    _, outputs = train(build_segmenter(), [draw_batch()] * 8)
    assert outputs[-1]["loss"].item() < outputs[0]["loss"].item()
