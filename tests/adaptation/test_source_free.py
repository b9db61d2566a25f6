"""Source-free adaptation: its loss, the labels that it learns from, and that nothing of the source is read."""

from __future__ import annotations

import copy

import pytest
import torch
from iterations import draw_batch, segmentation_of, trainer_of
from methods import build, gradients, spy_on_gradients, state, step
from sifa.training.iteration_update import IterationUpdate

BATCH = draw_batch(0, view=True)


def test_a_step_minimizes_the_segmentation_loss_of_the_view_on_the_labels_of_the_weight_average() -> None:
    method = build("source_free")
    (seen,) = (spy_on_gradients(optimizer) for optimizer in method.optimizers.values())
    segmenter = copy.deepcopy(method.networks["segmenter"]).train()
    labels = build("source_free").shared_state["self_training"].label(BATCH["target_image"])
    loss = segmentation_of(segmenter(BATCH["target_view"]), labels)
    output = step(method, BATCH)
    for actual, expected in zip(seen[0], gradients(loss, segmenter), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    assert output["loss"].item() == output["self_training"].item() == pytest.approx(loss.item())


def test_source_images_and_labels_are_never_read() -> None:
    method, other = build("source_free"), build("source_free")
    nothing = {name: BATCH[name][:0] for name in ("source_image", "source_label")}
    step(method, BATCH)
    step(other, BATCH | nothing)
    first, second = state(method.networks), state(other.networks)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_running_statistics_are_those_of_target_images() -> None:
    method = build("source_free")
    alone = copy.deepcopy(method.networks["segmenter"]).train()
    alone(BATCH["target_image"])
    step(method, BATCH)
    expected = dict(alone.named_buffers())
    for name, buffer in method.networks["segmenter"].named_buffers():
        torch.testing.assert_close(buffer, expected[name], rtol=0, atol=1e-12)


def test_a_trainer_runs_on_batches_without_source_images() -> None:
    method = build("source_free")
    before = state(method.networks)
    target = {name: BATCH[name] for name in ("target_image", "target_view")}
    trainer_of(IterationUpdate(method), [target]).run()
    after = state(method.networks)
    assert all(not torch.equal(before[name], after[name]) for name in before)
