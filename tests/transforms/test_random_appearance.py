"""Random appearance (GIN): contrasts and textures change, shapes and everything else stay the same."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from sifa.transforms.random_appearance import RandomAppearanced

SEEDS = range(20)


def draw_image(channels: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return 2 * torch.rand(channels, 12, 20, generator=torch.Generator().manual_seed(0)).to(dtype) - 1


def changed(image: Any, seed: int = 0, **options: Any) -> torch.Tensor:
    return seeded("image", seed, **options)({"image": image})["image"]


def seeded(keys: Any, seed: int = 0, **options: Any) -> RandomAppearanced:
    transform = RandomAppearanced(keys, **options)
    transform.set_random_state(seed=seed)
    return transform


def test_the_random_state_alone_decides() -> None:
    image = draw_image()
    assert torch.equal(changed(image, 1), changed(image, 1))
    results = [changed(image, seed) for seed in SEEDS]
    assert all(not torch.equal(*pair) for pair in pairwise(results))


def test_the_seed_of_a_composition_reaches_it_and_the_global_generators_do_not_matter() -> None:
    def run(global_seed: int) -> Any:
        np.random.seed(global_seed)
        torch.manual_seed(global_seed)
        composition = Compose([RandomAppearanced("image")]).set_random_state(seed=3)
        return composition({"image": draw_image()})

    assert torch.equal(run(0)["image"], run(1)["image"])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_keep_shape_type_and_range(channels: int, dtype: torch.dtype) -> None:
    image = draw_image(channels, dtype)
    for seed in SEEDS:
        found = changed(image, seed)
        assert type(found) is torch.Tensor
        assert found.shape == image.shape
        assert found.dtype is dtype
        assert found.abs().max() <= 1 + 1e-6
        assert not torch.equal(found, image)


@pytest.mark.parametrize("options", [{"layers": 1}, {"layers": 2, "channels": 5}, {"layers": 6, "channels": 1}])
def test_other_sizes_of_the_random_network_work(options: dict[str, int]) -> None:
    found = changed(draw_image(2), **options)
    assert found.shape == (2, 12, 20)
    assert found.abs().max() <= 1 + 1e-6


def test_contrasts_change_and_may_turn_over() -> None:
    image = torch.linspace(-1, 1, 20).expand(1, 12, 20)
    similarity = [np.corrcoef(image.flatten(), changed(image, seed).flatten())[0, 1] for seed in range(40)]
    assert min(similarity) < -0.5
    assert max(similarity) > 0.5


def test_shapes_stay() -> None:
    image = torch.full((1, 32, 32), -0.5)
    image[:, 10:22, 10:22] = 0.5
    differences = []
    for seed in SEEDS:
        found = changed(image, seed)
        outside, inside = found[:, :6], found[:, 14:18, 14:18]  # four 3x3 kernels do not reach the border from there
        assert outside.max() - outside.min() < 1e-4
        assert inside.max() - inside.min() < 1e-4
        differences.append(abs(float(inside.mean() - outside.mean())))
    assert max(differences) > 0.5


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_constant_image_stays_finite_and_in_range(value: float) -> None:
    for seed in SEEDS:
        found = changed(torch.full((1, 12, 20), value), seed)
        assert found.isfinite().all()
        assert found.abs().max() <= 1 + 1e-6


def test_with_probability_zero_nothing_changes() -> None:
    image = draw_image()
    assert all(changed(image, seed, prob=0) is image for seed in SEEDS)


def test_with_probability_one_half_about_half_of_the_images_change() -> None:
    image = draw_image()
    transform = seeded("image", prob=0.5)
    count = sum(not torch.equal(transform({"image": image})["image"], image) for _ in range(100))
    assert 35 <= count <= 65


def test_other_entries_and_the_image_that_went_in_are_left_alone() -> None:
    image, label = draw_image(), torch.arange(240).reshape(1, 12, 20)
    kept, kept_label = image.clone(), label.clone()
    data: dict[Hashable, Any] = {"image": image, "label": label, "name": "a"}
    result = seeded("image")(data)
    assert set(result) == {"image", "label", "name"}
    assert result["label"] is label
    assert torch.equal(label, kept_label)
    assert torch.equal(image, kept)
    assert data["image"] is image


def test_several_images_get_appearances_of_their_own() -> None:
    image = draw_image()
    result = seeded(["one", "other"])({"one": image, "other": image})
    assert not torch.equal(result["one"], result["other"])


@pytest.mark.parametrize("kind", ["array", "with meta data"])
def test_other_kinds_of_arrays_become_plain_tensors_of_the_same_values(kind: str) -> None:
    image = draw_image()
    other: Any = image.numpy() if kind == "array" else MetaTensor(image)
    found = changed(other)
    assert type(found) is torch.Tensor
    assert torch.equal(found, changed(image))


def test_an_entry_that_is_missing_is_refused_unless_it_may_be() -> None:
    with pytest.raises(KeyError, match="image"):
        RandomAppearanced("image")({"label": draw_image()})
    data: Mapping[Hashable, Any] = {"label": draw_image()}
    assert RandomAppearanced("image", allow_missing_keys=True)(data) == data


def test_images_change_under_autocast_as_well() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = changed(draw_image())
    assert found.dtype == torch.float32
    assert not torch.equal(found, draw_image())
