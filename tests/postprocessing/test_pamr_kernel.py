"""PAMR as machine code: the same as the formula on every shape, and the formula wherever the code does not apply."""

from __future__ import annotations

from typing import Any

import numba
import pytest
import torch
from sifa.postprocessing import pamr, pamr_kernel
from sifa.postprocessing.pamr import refine_by_formula, refine_with_pamr


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def scene(batch: int, classes: int, height: int, width: int, sharpness: float = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns probabilities and an image with flat parts, edges and noise."""
    image = (2 * draw(batch, 1, height, width, seed=1) - 1).mul(4).round() / 4
    image = (image + 0.02 * draw(batch, 1, height, width, seed=2)).clamp(-1, 1)
    return (sharpness * draw(batch, classes, height, width)).softmax(1), image


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Returns the shapes that the kernel has been called with."""
    shapes: list[tuple[int, ...]] = []
    refine = pamr_kernel.kernel()

    def counted(probabilities: Any, *rest: Any) -> None:
        shapes.append(probabilities.shape)
        refine(probabilities, *rest)

    monkeypatch.setattr(pamr_kernel, "kernel", lambda: counted)
    return shapes


@pytest.mark.parametrize(
    ("classes", "height", "width"),
    [(2, 1, 1), (5, 64, 64), (3, 2, 65), (4, 70, 3), (6, 17, 127), (5, 33, 128), (2, 9, 129), (5, 40, 200)],
)
@pytest.mark.parametrize("iterations", [1, 10])
def test_the_code_is_the_formula_up_to_rounding(
    classes: int, height: int, width: int, iterations: int, calls: list[tuple[int, ...]]
) -> None:
    probabilities, image = scene(2, classes, height, width)
    found = refine_with_pamr(probabilities, image, iterations)
    torch.testing.assert_close(found, refine_by_formula(probabilities, image, iterations), rtol=0, atol=1e-5)
    assert calls == [(2, classes, height, width)]
    assert (found >= 0).all()


@pytest.mark.parametrize("contrast", [0.05, 0.1, 2.0])
def test_the_contrast_is_that_of_the_formula(contrast: float, calls: list[tuple[int, ...]]) -> None:
    probabilities, image = scene(1, 4, 30, 70)
    found = refine_with_pamr(probabilities, image, contrast=contrast)
    expected = refine_by_formula(probabilities, image, contrast=contrast)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert calls


def test_masks_are_those_of_the_formula() -> None:
    probabilities, image = scene(8, 5, 64, 64, sharpness=2)
    found, expected = (refine(probabilities, image).argmax(1) for refine in (refine_with_pamr, refine_by_formula))
    for structure in range(5):
        one, other = found == structure, expected == structure
        assert 2 * (one & other).sum() >= 0.9998 * (one.sum() + other.sum())


def test_certain_pixels_and_absent_classes_stay_as_they_are(calls: list[tuple[int, ...]]) -> None:
    probabilities = torch.zeros(1, 4, 64, 64)
    probabilities[:, 2] = 1
    found = refine_with_pamr(probabilities, scene(1, 4, 64, 64)[1])
    torch.testing.assert_close(found, probabilities, rtol=0, atol=1e-5)
    assert calls


def test_results_are_the_same_at_each_call_in_each_batch_and_with_each_number_of_threads() -> None:
    probabilities, image = scene(5, 3, 20, 80)
    before, threads = refine_with_pamr(probabilities, image), torch.get_num_threads()
    try:
        for number in (1, 2, 4, 8):
            torch.set_num_threads(number)
            assert torch.equal(refine_with_pamr(probabilities, image), before)
    finally:
        torch.set_num_threads(threads)
    alone = [refine_with_pamr(probabilities[one : one + 1], image[one : one + 1]) for one in range(5)]
    assert torch.equal(torch.cat(alone), before)


def test_the_order_of_values_in_memory_does_not_matter(calls: list[tuple[int, ...]]) -> None:
    probabilities, image = scene(2, 5, 16, 24)
    last = probabilities.to(memory_format=torch.channels_last)
    assert torch.equal(refine_with_pamr(last, image), refine_with_pamr(probabilities, image))
    turned, turned_image = probabilities.transpose(2, 3), image.transpose(2, 3)
    expected = refine_with_pamr(turned.contiguous(), turned_image.contiguous())
    assert torch.equal(refine_with_pamr(turned, turned_image), expected)
    assert len(calls) == 4


def test_inputs_are_not_changed() -> None:
    probabilities, image = scene(2, 5, 16, 24)
    before = probabilities.clone(), image.clone()
    refine_with_pamr(probabilities, image)
    assert torch.equal(probabilities, before[0])
    assert torch.equal(image, before[1])


def test_what_is_not_a_number_is_not_hidden() -> None:
    probabilities, image = scene(1, 3, 64, 64)
    probabilities[0, :, 30, 30] = torch.nan
    found, expected = (refine(probabilities, image) for refine in (refine_with_pamr, refine_by_formula))
    assert torch.equal(found.isnan(), expected.isnan())
    assert found.isnan().any()


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": lambda given: given.double()},
        {"probabilities": lambda given: given.bfloat16(), "image": lambda given: given.bfloat16()},
        {"image": lambda given: given.repeat(1, 2, 1, 1)},
        {"image": lambda given: 100 * given},
        {"image": lambda given: given.where(given < 0.5, torch.nan)},
        {"probabilities": lambda given: given[:, :1]},
        {"probabilities": lambda given: given[:0], "image": lambda given: given[:0]},
        {"dilations": lambda _: (1, 3)},
        {"contrast": lambda _: 0.01},
    ],
)
def test_everything_else_goes_by_the_formula(change: dict[str, Any], calls: list[tuple[int, ...]]) -> None:
    probabilities, image = scene(1, 3, 12, 12)
    given: dict[str, Any] = {"probabilities": probabilities, "image": image, "dilations": (1, 2, 4), "contrast": 0.1}
    given |= {name: make(given[name]) for name, make in change.items()}
    found, expected = refine_with_pamr(**given), refine_by_formula(**given)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert not calls


def test_a_gradient_flows_through_the_formula(calls: list[tuple[int, ...]]) -> None:
    probabilities, image = scene(1, 3, 12, 12)
    probabilities.requires_grad_()
    refine_with_pamr(probabilities, image)[:, 1].sum().backward()
    assert probabilities.grad is not None
    assert not calls
    with torch.no_grad():
        refine_with_pamr(probabilities, image)
    assert calls


def test_without_numba_results_are_the_same_up_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, image = scene(2, 5, 64, 64)
    found = refine_with_pamr(probabilities, image)
    monkeypatch.setattr(pamr, "pamr_kernel", None)
    torch.testing.assert_close(refine_with_pamr(probabilities, image), found, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("no locator available"), OSError(28, "No space left on device")])
def test_code_that_cannot_be_kept_on_disk_is_compiled_in_the_process(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    njit = numba.njit

    def refuse(*args: Any, cache: bool = False, **settings: Any) -> Any:
        if cache:
            raise error
        return njit(*args, **settings)

    monkeypatch.setattr(numba, "njit", refuse)
    kernel = pamr_kernel.kernel.__wrapped__()
    monkeypatch.setattr(pamr_kernel, "kernel", lambda: kernel)
    probabilities, image = scene(1, 3, 20, 70)
    expected = refine_by_formula(probabilities, image)
    torch.testing.assert_close(refine_with_pamr(probabilities, image), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 1, 20, 70), (2, 1, 40, 20), (3, 1, 40, 70), (1, 1, 1, 1)])
def test_an_image_of_another_shape_goes_to_the_formula(shape: tuple[int, ...], calls: list[tuple[int, ...]]) -> None:
    probabilities, _ = scene(2, 5, 40, 70)
    image = 2 * draw(*shape) - 1
    try:
        expected = refine_by_formula(probabilities, image)
    except RuntimeError:
        with pytest.raises(RuntimeError):
            refine_with_pamr(probabilities, image)
    else:
        assert torch.equal(refine_with_pamr(probabilities, image), expected)
    assert not calls
