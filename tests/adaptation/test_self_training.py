"""Self-training: which labels the weight average gives, and who learns from them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from iterations import (
    BATCHES,
    CLASSES,
    LAMBDA_DICE,
    PAPER,
    Columns,
    Kind,
    build_networks,
    draw_batch,
    largest_difference,
    moved,
    state_of,
    train,
    update_of,
)
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.self_training import SelfTraining, expected_frequencies
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_networks import SIFANetworks
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from sifa.postprocessing.pamr import refine_with_pamr
from sifa.training.iteration_update import IterationUpdate
from sifa.training.weight_average import WeightAverage

FREQUENCIES = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
KINDS = pytest.mark.parametrize("kind", [SIFA, SIFASimultaneous])
IMAGE = BATCHES[0]["target_image"]
WEIGHT = 2.5


def with_weight(weight: Any) -> Columns:
    return {**PAPER, "segmenter": {**PAPER["segmenter"], "self_training": weight}}


def as_they_are(probabilities: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return probabilities


def saying(
    teacher: Callable[[torch.Tensor], torch.Tensor],
    frequencies: torch.Tensor = FREQUENCIES,
    refinement: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = as_they_are,
    memory: float = 0.98,
) -> SelfTraining:
    """Self-training whose network says what it is told to: `teacher` maps images to logits."""
    average = WeightAverage(build_networks().segmenter, 0.9)
    found = SelfTraining(average, frequencies, refinement, memory=memory)
    found.teacher = teacher
    return found


def draw_logits(seed: int, *bias: float) -> torch.Tensor:
    """Logits (2, 3, 16, 32), some confident and some not; `bias` is of the classes."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, CLASSES, 16, 32, dtype=torch.float64, generator=generator)
    return logits + torch.tensor(bias or (0.0,) * CLASSES, dtype=torch.float64)[:, None, None]


# --- Labels ----------------------------------------------------------------------------------------------------------


def test_labels_follow_the_formulas_batch_after_batch() -> None:
    given = [draw_logits(0, 0, 1, -1), draw_logits(1, 2, 0, -90), draw_logits(2, 0, 0, 0)]  # the second lacks class 2
    memory = 0.8
    remaining = iter(given)
    self_training = saying(lambda image: next(remaining), memory=memory)
    p = FREQUENCIES.float().double().numpy()
    q = p.copy()
    for logits in given:
        exponentials = np.exp(logits.numpy())
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        q = memory * q + (1 - memory) * probabilities.mean(axis=(0, 2, 3))

        actual = self_training.label(IMAGE)

        assert actual.dtype is torch.int64
        assert np.array_equal(actual[:, 0].numpy(), (probabilities * (p / q)[:, None, None]).argmax(axis=1))
    assert self_training.predicted.numpy() == pytest.approx(q, rel=1e-9)


def test_probabilities_are_refined_with_their_image_before_they_are_aligned() -> None:
    logits, images = draw_logits(0, 0, 1, -1), []

    def turned(probabilities: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        images.append(image)
        return probabilities.flip(-1)

    refined = logits.softmax(1).flip(-1)
    self_training = saying(lambda image: logits, refined.mean((0, 2, 3)), turned, memory=0)
    assert torch.equal(self_training.label(IMAGE)[:, 0], refined.argmax(1))
    assert images[0] is IMAGE
    torch.testing.assert_close(self_training.predicted, refined.mean((0, 2, 3)), rtol=1e-9, atol=0)


def test_a_class_that_is_underestimated_gets_more_labels_and_one_that_is_overestimated_fewer() -> None:
    logits = draw_logits(0, 0, 2, -2)  # far from equal shares
    self_training = saying(lambda image: logits, torch.full((CLASSES,), 1 / CLASSES))
    for _ in range(200):
        label = self_training.label(IMAGE)
    before, after = (torch.bincount(each.flatten(), minlength=CLASSES) for each in (logits.argmax(1), label))
    assert after[2] > 2 * before[2]
    assert after[1] < 0.8 * before[1]


def test_where_predictions_have_the_frequencies_that_are_expected_a_label_is_the_most_probable_class() -> None:
    logits = draw_logits(0, 0, 1, -1)
    self_training = saying(lambda image: logits, logits.softmax(1).mean((0, 2, 3)), memory=0)
    assert torch.equal(self_training.label(IMAGE)[:, 0], logits.argmax(1))


def test_a_class_that_the_source_lacks_leaves_everything_finite() -> None:
    self_training = saying(lambda image: draw_logits(0), torch.tensor([0.5, 0.5, 0.0]), memory=0)
    label = self_training.label(IMAGE)
    assert self_training.predicted.isfinite().all()
    assert not (label == 2).any()


def test_labels_are_what_the_average_says_of_the_batch_and_labeling_changes_nothing_of_it() -> None:
    segmenter = build_networks().segmenter
    average = WeightAverage(build_networks(1).segmenter, 0.9)
    reference = copy.deepcopy(average.network).train()
    frequencies = reference(IMAGE).softmax(1).mean((0, 2, 3))
    before = {name: value.clone() for name, value in average.network.state_dict().items()}
    self_training = SelfTraining(average, frequencies, as_they_are, memory=0)

    label = self_training.label(IMAGE)

    assert torch.equal(label[:, 0], copy.deepcopy(reference)(IMAGE).argmax(1))
    assert not torch.equal(label[:, 0], segmenter.train()(IMAGE).argmax(1))
    assert all(torch.equal(value, before[name]) for name, value in average.network.state_dict().items())
    assert label.shape == (2, 1, 16, 32)
    assert not self_training.predicted.requires_grad
    assert all(parameter.grad is None for parameter in average.network.parameters())


def test_self_training_goes_on_from_its_state_as_if_nothing_had_happened() -> None:
    one, other = (saying(draw_once(), memory=0.5) for _ in range(2))
    for _ in range(3):
        one.label(IMAGE)
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    other.teacher = one.teacher = lambda image: draw_logits(9)
    assert torch.equal(one.label(IMAGE), other.label(IMAGE))
    assert torch.equal(one.predicted, other.predicted)


def draw_once() -> Callable[[torch.Tensor], torch.Tensor]:
    draws = iter(range(10))
    return lambda image: draw_logits(next(draws))


# --- What is expected ------------------------------------------------------------------------------------------------


def test_in_longer_target_scans_structures_are_rarer_by_the_quotient_of_the_lengths() -> None:
    found = expected_frequencies(FREQUENCIES, 100, 250)
    assert found.tolist() == pytest.approx([1 - 0.3 * 0.4, 0.2 * 0.4, 0.1 * 0.4])
    assert found.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("target_length", [100, 60])
def test_in_target_scans_that_are_not_longer_structures_are_as_frequent_as_in_the_source(target_length: float) -> None:
    assert expected_frequencies(FREQUENCIES, 100, target_length).tolist() == pytest.approx(FREQUENCIES.tolist())


@pytest.mark.parametrize(("target_length", "share"), [(250, 1), (111, 1), (109, 1 / 1.09), (100, 1)])
def test_in_what_is_drawn_of_target_scans_structures_are_rarer_only_where_scans_are_taken_whole(
    target_length: float, share: float
) -> None:
    found = expected_frequencies(FREQUENCIES, 100, target_length, matched=True)
    assert found.tolist() == pytest.approx([1 - 0.3 * share, 0.2 * share, 0.1 * share])


# --- In an iteration -------------------------------------------------------------------------------------------------


class Told(SelfTraining):
    """Gives labels that do not depend on the networks, and remembers of which images."""

    def __init__(self) -> None:
        super().__init__(WeightAverage(build_networks().segmenter, 0.9), FREQUENCIES, as_they_are)
        self.asked: list[torch.Tensor] = []

    def label(self, target_image: torch.Tensor) -> torch.Tensor:
        self.asked.append(target_image)
        return told_labels()


def told_labels() -> torch.Tensor:
    return torch.randint(CLASSES, (2, 1, 16, 32), generator=torch.Generator().manual_seed(5))


VIEWED = [draw_batch(0, view=True), draw_batch(1, view=True)]
Gradients = dict[str, list[torch.Tensor]]


def gradients_of(kind: Kind, weight: float) -> tuple[Gradients, dict[str, Any]]:
    """The gradients with which the networks step in one iteration in which E and C stay as they are, and its output."""
    networks = build_networks()
    update = update_of(networks, with_weight(weight), kind=kind, self_training=Told())
    for group in update.method.optimizers["segmenter"].param_groups:
        group["lr"] = 0.0  # what comes after E and C sees the same weights, whatever their gradient
    found: Gradients = {}
    for name, network in networks.by_name().items():

        def keep(*_: Any, name: str = name, network: torch.nn.Module = network) -> None:
            found[name] = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

        update.method.optimizers[name].register_step_pre_hook(keep)
    return found, train(update, VIEWED[:1])[0]


def separate_term(networks: SIFANetworks) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss of self-training, computed alone, and its gradient to E and C."""
    segmenter = copy.deepcopy(networks.segmenter).train()
    loss = SegmentationLoss(LAMBDA_DICE)(segmenter(VIEWED[0]["target_view"]), told_labels())
    return loss, list(torch.autograd.grad(loss, list(segmenter.parameters())))


@KINDS
def test_e_and_c_and_no_other_network_get_the_gradient_of_the_separately_computed_term(
    kind: Kind,
) -> None:
    loss, expected = separate_term(build_networks())
    (without, _), (having, output) = gradients_of(kind, 0), gradients_of(kind, WEIGHT)
    assert output["self_training"].item() == pytest.approx(loss.item(), rel=1e-6)
    assert without.keys() == having.keys() == build_networks().by_name().keys()
    for name in without.keys() - {"segmenter"}:
        for one, other in zip(without[name], having[name], strict=True):
            torch.testing.assert_close(other, one, rtol=1e-9, atol=0, msg=name)
    scale = max(gradient.abs().max().item() for gradient in expected)
    for one, other, own in zip(without["segmenter"], having["segmenter"], expected, strict=True):
        torch.testing.assert_close(other - one, WEIGHT * own, rtol=1e-6, atol=1e-7 * scale)


@KINDS
def test_the_loss_of_e_and_c_holds_the_weighted_term(kind: Kind) -> None:
    (_, without), (_, having) = gradients_of(kind, 0), gradients_of(kind, WEIGHT)
    expected = without["segmenter_loss"] + WEIGHT * having["self_training"]
    assert having["segmenter_loss"].item() == pytest.approx(expected.item(), rel=1e-9)
    assert having["loss"] == having["segmenter_loss"]
    assert "self_training" not in without


@KINDS
def test_in_an_epoch_of_weight_zero_nothing_is_labeled(kind: Kind) -> None:
    told = Told()
    outputs = train(update_of(build_networks(), with_weight([0, 0.5]), kind=kind, self_training=told), VIEWED, epochs=2)
    assert ["self_training" in output for output in outputs] == [False, False, True, True]
    assert len(told.asked) == 2
    assert all(torch.equal(image, batch["target_image"]) for image, batch in zip(told.asked, VIEWED, strict=True))


@KINDS
def test_without_weight_the_iteration_is_the_one_without_self_training(
    kind: Kind,
) -> None:
    networks, plain = build_networks(), build_networks()
    train(update_of(networks, with_weight(0), kind=kind, self_training=Told()), VIEWED)
    train(update_of(plain, kind=kind), BATCHES)
    assert moved(state_of(networks), state_of(plain)) == set()


@KINDS
def test_running_statistics_still_come_from_one_forward_of_the_target_images(
    kind: Kind,
) -> None:
    networks = build_networks()
    average = WeightAverage(networks.segmenter, 0.5)
    self_training = SelfTraining(average, FREQUENCIES, refine_with_pamr)
    update = update_of(networks, with_weight(1), kind=kind, average=average, self_training=self_training)
    for count, batch in enumerate(VIEWED, start=1):
        alone = copy.deepcopy(networks.segmenter.encoder).train()
        alone(batch["target_image"])
        output = train(update, [batch])[0]
        assert "self_training" in output
        expected = dict(alone.named_buffers())
        for network in (networks.segmenter, average.network):
            for name, buffer in network.encoder.named_buffers():
                torch.testing.assert_close(buffer, expected[name], rtol=0, atol=1e-12)
                assert not name.endswith("num_batches_tracked") or buffer.item() == count


def training_update(kind: Kind, seed: int) -> tuple[SIFANetworks, IterationUpdate]:
    networks = build_networks(seed)
    average = WeightAverage(networks.segmenter, 0.5)
    self_training = SelfTraining(average, FREQUENCIES, refine_with_pamr)
    columns = with_weight(1)
    return networks, update_of(networks, columns, kind=kind, average=average, self_training=self_training)


@KINDS
def test_an_update_that_trains_itself_goes_on_from_its_state_as_if_nothing_had_happened(
    kind: Kind,
) -> None:
    (networks, update), (others, other) = training_update(kind, 0), training_update(kind, 1)
    train(update, VIEWED[:1])
    other.load_state_dict(copy.deepcopy(update.state_dict()))
    outputs = [train(one, VIEWED[1:])[0] for one in (update, other)]
    assert outputs[0]["self_training"] == outputs[1]["self_training"]
    assert moved(state_of(networks), state_of(others)) == set()
    assert update.average is not None
    assert other.average is not None
    assert largest_difference(update.average.state_dict(), other.average.state_dict())[0] == 0
    shares = [one.method.shared_state["self_training"].state_dict()["predicted"] for one in (update, other)]
    assert torch.equal(shares[0], shares[1])
