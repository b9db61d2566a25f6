"""The losses, each against its formula restated with plain loops over numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sifa.adaptation import losses
from sifa.adaptation.losses import SegmentationLoss

CLASSES = 4
SHAPE = (2, 4, 8)  # B, H, W: 64 pixels, so that class frequencies are exact in every precision
Array = npt.NDArray[np.float64]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draw_label(classes: int = CLASSES, seed: int = 1) -> torch.Tensor:
    """Class indices (B, H, W) below `classes`, skewed towards 0 as a background is."""
    weights = torch.arange(classes, 0, -1, dtype=torch.float64)
    drawn = torch.multinomial(weights, 64, replacement=True, generator=torch.Generator().manual_seed(seed))
    return drawn.reshape(SHAPE)


def probabilities_of(logits: torch.Tensor) -> Array:
    """The softmax over axis 1, restated."""
    exponentials = np.exp(logits.numpy())
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def restated_cross_entropy(logits: torch.Tensor, label: torch.Tensor) -> float:
    probabilities, truth = probabilities_of(logits), label.numpy()
    total = 0.0
    for index in np.ndindex(truth.shape):
        image, row, column = index
        frequency = np.count_nonzero(truth == truth[index]) / truth.size
        total += (1 - frequency) * -np.log(probabilities[image, truth[index], row, column])
    return total / truth.size


def restated_dice_loss(logits: torch.Tensor, label: torch.Tensor) -> float:
    probabilities, truth = probabilities_of(logits), label.numpy()
    scores = []
    for k in range(logits.shape[1]):
        p, g = probabilities[:, k], (truth == k).astype(float)
        scores.append(2 * (p * g).sum() / ((p**2).sum() + (g**2).sum() + 1e-7))
    return 1 - sum(scores) / len(scores)


def logits_that_predict(label: torch.Tensor, confidence: float) -> torch.Tensor:
    """Logits whose class of `label` stands `confidence` above the others."""
    return confidence * torch.nn.functional.one_hot(label, CLASSES).movedim(-1, 1).double()


def test_cycle_is_the_mean_absolute_difference() -> None:
    image, reconstructed = draw(2, 1, 3, 5), draw(2, 1, 3, 5, seed=1)
    pairs = zip(image.flatten().tolist(), reconstructed.flatten().tolist(), strict=True)
    expected = sum(abs(a - b) for a, b in pairs) / 30
    assert losses.cycle(reconstructed, image).item() == pytest.approx(expected, rel=1e-12)


def test_cycle_of_an_image_with_itself_is_zero() -> None:
    image = draw(2, 1, 3, 5)
    assert losses.cycle(image, image).item() == 0


def test_fool_is_the_mean_square_distance_of_the_scores_to_one() -> None:
    scores = draw(2, 1, 3, 5)
    expected = sum((score - 1) ** 2 for score in scores.flatten().tolist()) / 30
    assert losses.fool(scores).item() == pytest.approx(expected, rel=1e-12)


def test_discriminate_is_half_the_sum_of_both_square_distances_though_the_sizes_differ() -> None:
    real, fake = draw(2, 1, 3, 5), draw(1, 1, 2, 2, seed=1)
    real_part = sum((score - 1) ** 2 for score in real.flatten().tolist()) / 30
    fake_part = sum(score**2 for score in fake.flatten().tolist()) / 4
    assert losses.discriminate(real, fake).item() == pytest.approx(0.5 * (real_part + fake_part), rel=1e-12)


def test_a_discriminator_that_is_right_loses_nothing_and_one_that_is_undecided_a_quarter() -> None:
    ones, zeros, halves = torch.ones(2, 3), torch.zeros(2, 3), torch.full((2, 3), 0.5)
    assert losses.discriminate(ones, zeros).item() == 0
    assert losses.discriminate(halves, halves).item() == 0.25
    assert losses.discriminate(zeros, ones).item() == 1
    assert losses.fool(ones).item() == 0


def test_scores_below_zero_count_without_an_activation() -> None:
    assert losses.fool(torch.full((4,), -1.0)).item() == 4
    assert losses.discriminate(torch.full((4,), -1.0), torch.full((4,), -2.0)).item() == 4


def test_class_frequencies_count_pixels_and_include_classes_that_are_absent() -> None:
    label = torch.tensor([[[0, 0, 0, 2], [0, 1, 0, 2]]])
    assert losses.class_frequencies(label, 4).tolist() == [0.625, 0.125, 0.25, 0]


@pytest.mark.parametrize("present", [CLASSES, CLASSES - 1, 2])
def test_cross_entropy_weights_each_pixel_by_one_minus_the_frequency_of_its_class(present: int) -> None:
    logits, label = draw(2, CLASSES, 4, 8), draw_label(present)
    expected = restated_cross_entropy(logits, label)
    assert losses.weighted_cross_entropy(logits, label).item() == pytest.approx(expected, rel=1e-10)


def test_cross_entropy_of_a_batch_of_one_class_is_zero() -> None:
    logits = draw(2, CLASSES, 4, 8)
    assert losses.weighted_cross_entropy(logits, torch.zeros(SHAPE, dtype=torch.int64)).item() == 0


@pytest.mark.parametrize("present", [CLASSES, CLASSES - 1, 1])
def test_soft_dice_has_square_denominators_over_the_batch_and_counts_every_class(present: int) -> None:
    logits, label = draw(2, CLASSES, 4, 8), draw_label(present)
    expected = restated_dice_loss(logits, label)
    assert losses.soft_dice(logits, label).item() == pytest.approx(expected, rel=1e-10)


def test_soft_dice_does_not_average_over_images() -> None:
    logits, label = draw(2, CLASSES, 4, 8), draw_label()
    each = [restated_dice_loss(logits[[i]], label[[i]]) for i in range(2)]
    assert losses.soft_dice(logits, label).item() != pytest.approx(sum(each) / 2, abs=1e-4)


def test_a_perfect_prediction_costs_next_to_nothing() -> None:
    label = draw_label()
    assert set(label.flatten().tolist()) == set(range(CLASSES))
    logits = logits_that_predict(label, 40)
    assert 0 <= losses.weighted_cross_entropy(logits, label).item() < 1e-9
    assert abs(losses.soft_dice(logits, label).item()) < 1e-6


def test_a_class_that_the_batch_lacks_costs_its_share_of_the_dice_even_in_a_perfect_prediction() -> None:
    label = draw_label(CLASSES - 1)
    assert losses.soft_dice(logits_that_predict(label, 40), label).item() == pytest.approx(1 / CLASSES, abs=1e-6)


@pytest.mark.parametrize("gap", [6.0, 12.0, 200.0])
def test_the_gradient_does_not_vanish_where_the_true_class_has_a_probability_below_the_authors_clip(gap: float) -> None:
    label = draw_label()
    logits = logits_that_predict(label, -gap).requires_grad_()
    assert logits.softmax(1).gather(1, label.unsqueeze(1)).max().item() < 0.005
    losses.weighted_cross_entropy(logits, label).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    of_true_class = logits.grad.gather(1, label.unsqueeze(1)).squeeze(1)
    p = np.exp(-gap) / (np.exp(-gap) + CLASSES - 1)
    frequencies = torch.bincount(label.flatten()) / label.numel()
    expected = (1 - frequencies[label]).double() * (p - 1) / label.numel()
    torch.testing.assert_close(of_true_class, expected, rtol=1e-9, atol=0)
    assert of_true_class.max().item() < 0


def test_the_dice_gradient_stays_finite_where_a_class_is_absent_from_label_and_prediction() -> None:
    label = torch.zeros(SHAPE, dtype=torch.int64)
    logits = logits_that_predict(label, 500).float().requires_grad_()
    losses.soft_dice(logits, label).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("lambda_dice", [0.0, 0.5, 2.0])
def test_the_segmentation_loss_adds_both_for_labels_of_any_integer_type(dtype: torch.dtype, lambda_dice: float) -> None:
    logits, label = draw(2, CLASSES, 4, 8), draw_label()
    loss = SegmentationLoss(lambda_dice)(logits, label.unsqueeze(1).to(dtype))
    expected = restated_cross_entropy(logits, label) + lambda_dice * restated_dice_loss(logits, label)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_the_segmentation_loss_has_the_gradient_of_its_formula() -> None:
    logits, label = draw(1, CLASSES, 2, 4).requires_grad_(), draw_label()[:1, :2, :4]
    assert torch.autograd.gradcheck(lambda x: SegmentationLoss(0.7)(x, label.unsqueeze(1)), (logits,))


# --- Games of features ------------------------------------------------------------------------------------------------


def softplus(values: Array) -> Array:
    return np.log1p(np.exp(values))


def test_the_cross_entropy_game_is_the_restated_one() -> None:
    real, fake = draw(2, 1, 3, 4), draw(2, 1, 4, 2, seed=1)
    expected = 0.5 * (softplus(-real.numpy()).mean() + softplus(fake.numpy()).mean())
    assert losses.cross_entropy_discriminate(real, fake).item() == pytest.approx(expected)
    assert losses.cross_entropy_fool(fake).item() == pytest.approx(softplus(-fake.numpy()).mean())


def test_the_cross_entropy_of_a_discriminator_that_knows_nothing_is_log_2() -> None:
    scores = torch.zeros(2, 1, 3, 3)
    assert losses.cross_entropy_discriminate(scores, scores).item() == pytest.approx(np.log(2))


def test_the_wasserstein_game_is_the_restated_one() -> None:
    real, fake = draw(2, 1, 3, 4), draw(2, 1, 4, 2, seed=1)
    assert losses.wasserstein_discriminate(real, fake).item() == pytest.approx(fake.mean().item() - real.mean().item())
    assert losses.wasserstein_fool(fake).item() == pytest.approx(-fake.mean().item())


def test_accuracy_counts_both_labels_alike_and_a_score_of_0_for_neither() -> None:
    real, fake = torch.tensor([1.0, -1.0, 2.0, 0.0]), torch.tensor([-1.0, 3.0])
    assert losses.discriminator_accuracy(real, fake).item() == pytest.approx((2 / 4 + 1 / 2) / 2)


def test_the_plain_cross_entropy_weighs_all_pixels_alike() -> None:
    logits, label = draw(2, CLASSES, 4, 8), draw_label()
    probabilities = probabilities_of(logits)
    expected = np.mean([-np.log(probabilities[b, label[b, y, x], y, x]) for b, y, x in np.ndindex(SHAPE)])
    assert losses.cross_entropy(logits, label[:, None].to(torch.uint8)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss",
    [losses.cross_entropy_fool, losses.wasserstein_fool, lambda one: losses.cross_entropy_discriminate(one, one)],
)
def test_games_of_half_precision_scores_are_computed_in_float32(loss: Any) -> None:
    assert loss(draw(2, 1, 3, 3).to(torch.bfloat16)).dtype is torch.float32
