"""The pool of earlier fakes."""

from __future__ import annotations

import pytest
import torch
from sifa.adaptation.image_pool import ImagePool


def numbered(*numbers: int) -> torch.Tensor:
    """Images (B, 1, 2, 3), each filled with its number."""
    return torch.stack([torch.full((1, 2, 3), float(number)) for number in numbers])


def numbers_of(images: torch.Tensor) -> list[int]:
    assert images.shape[1:] == (1, 2, 3)
    assert all((image == image[0, 0, 0]).all() for image in images), "an image was mixed from several"
    return [int(image[0, 0, 0]) for image in images]


def history(size: int, seed: int, batches: int = 500) -> list[list[int]]:
    """What a pool returns for batches of four consecutive numbers."""
    pool = ImagePool(size, seed)
    return [numbers_of(pool(numbered(*range(4 * i, 4 * i + 4)))) for i in range(batches)]


def test_a_pool_of_size_zero_hands_every_image_through_and_keeps_none() -> None:
    pool = ImagePool(0)
    for i in range(20):
        images = numbered(i, i + 1)
        assert torch.equal(pool(images), images)
    assert pool.images == []


def test_a_pool_that_is_not_full_returns_the_new_images() -> None:
    pool = ImagePool(8)
    assert numbers_of(pool(numbered(1, 2, 3))) == [1, 2, 3]
    assert numbers_of(pool(numbered(4, 5, 6))) == [4, 5, 6]
    assert len(pool.images) == 6


def test_a_full_pool_returns_an_old_image_about_half_the_time() -> None:
    new = old = 0
    for i, returned in enumerate(history(size=20, seed=0)):
        for place, number in enumerate(returned):
            if i >= 5:  # 20 images fill the pool
                new += number == 4 * i + place
                old += number < 4 * i + place
    assert new + old == 4 * 495
    assert old / (new + old) == pytest.approx(0.5, abs=0.05)  # more than four standard deviations


def test_the_pool_never_keeps_more_images_than_its_size() -> None:
    pool = ImagePool(5)
    for i in range(100):
        pool(numbered(*range(4 * i, 4 * i + 4)))
        assert len(pool.images) == min(5, 4 * (i + 1))


def test_an_old_image_that_was_returned_has_left_the_pool() -> None:
    pool = ImagePool(5)
    returned_before: set[int] = set()
    for i in range(300):
        for number in numbers_of(pool(numbered(i))):
            if number != i:
                kept = [int(image[0, 0, 0]) for image in pool.images]
                assert number not in kept
                assert i in kept, "the new image takes the place of the old one"
                assert number not in returned_before
                returned_before.add(number)
    assert len(returned_before) > 100


def test_every_place_of_the_pool_is_drawn_from() -> None:
    pool = ImagePool(4)
    pool(numbered(0, 1, 2, 3))
    returned = {numbers_of(pool(numbered(100 + i)))[0] for i in range(100)}
    assert {0, 1, 2, 3} <= returned


def test_the_same_seed_returns_the_same_images_whatever_the_global_random_state() -> None:
    torch.manual_seed(1)
    first = history(size=10, seed=3, batches=50)
    torch.manual_seed(2)
    assert history(size=10, seed=3, batches=50) == first
    assert history(size=10, seed=4, batches=50) != first


def test_the_pool_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    history(size=3, seed=0, batches=20)
    assert torch.equal(torch.get_rng_state(), before)


def test_kept_images_are_copies_that_do_not_change_with_the_originals() -> None:
    pool = ImagePool(3)
    for start in (0, 3, 6, 9, 12):
        images = numbered(start, start + 1, start + 2)
        returned = pool(images)
        images.fill_(-1)
        returned.fill_(-2)
        assert all(0 <= int(image.min()) == int(image.max()) < start + 3 for image in pool.images)


def test_batches_keep_shape_and_type() -> None:
    pool = ImagePool(2)
    for _ in range(10):
        returned = pool(torch.zeros(3, 2, 5, 7, dtype=torch.float64))
        assert returned.shape == (3, 2, 5, 7)
        assert returned.dtype == torch.float64


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="pool_size is -1"):
        ImagePool(-1)
