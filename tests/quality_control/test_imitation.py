"""Imitated target scans: no label in them, reproducible, each slice once, and the edges of the source kept."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.networks.segmenter import Segmenter
from sifa.networks.target_generator import TargetGenerator
from sifa.quality_control.imitation import (
    TRANSLATED,
    UNTRANSLATED,
    Imitation,
    degrade,
    kinds_of_imitation,
    translate,
)
from sifa.quality_control.prepared_scan import along_axes
from sifa.quality_control.source_guide import fine_tune_on_source
from sifa.quality_control.target_style import with_intensities_of, with_low_frequencies_of
from sifa.quality_control.views import ChangedImages
from sifa.transforms.intensity import NO_AIR
from sifa.transforms.orientation import slice_turn
from torch import nn

CLASSES = 3


@pytest.fixture
def networks() -> tuple[TargetGenerator, Segmenter]:
    torch.manual_seed(0)
    return TargetGenerator(1, 0.125, num_classes=CLASSES).eval(), Segmenter(1, CLASSES, 0.125).eval()


def slices() -> torch.Tensor:
    return torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_guided_generator_gets_the_classes_that_the_guide_predicts(
    networks: tuple[TargetGenerator, Segmenter],
) -> None:
    generator, guide = networks
    with torch.no_grad():
        expected = generator(slices(), guide(slices()).softmax(dim=1))
    assert torch.equal(translate(slices(), generator, guide), expected)


def test_images_of_any_size_are_translated(networks: tuple[TargetGenerator, Segmenter]) -> None:
    generator, guide = networks
    assert translate(slices()[..., :29, :27], generator, guide).shape == (4, 1, 29, 27)


@pytest.mark.parametrize("kind", [*TRANSLATED, *UNTRANSLATED])
def test_imitations_are_images_that_the_seed_reproduces(kind: str, networks: tuple[TargetGenerator, Segmenter]) -> None:
    generator, guide = networks
    used = generator if kind in TRANSLATED else None
    one, same, other = (
        Imitation(kind, used, guide, [slices() / part for part in (2, 3, 4, 5)], seed) for seed in (1, 1, 2)
    )
    found = one(one.acquire(slices()))
    assert found.shape == (4, 1, 32, 32)
    assert found.abs().max() <= 1
    assert torch.equal(found, same(same.acquire(slices())))
    if kind != "translated":
        assert not torch.equal(found, other(other.acquire(slices())))


def test_a_slice_is_imitated_once_whatever_its_batch(networks: tuple[TargetGenerator, Segmenter]) -> None:
    generator, guide = networks
    imitation = Imitation("translated_appearance", generator, guide, [], 0)
    together = imitation(slices())
    generator.forward = pytest.fail  # type: ignore[method-assign, assignment]
    alone = torch.cat([imitation(image[None]) for image in slices()])
    assert torch.equal(together, alone)


def test_a_run_without_a_generator_has_its_own_kinds() -> None:
    assert kinds_of_imitation(None) == UNTRANSLATED
    assert kinds_of_imitation(nn.Identity()) == TRANSLATED


def test_low_frequencies_are_the_examples_and_shapes_the_images() -> None:
    images, example = slices() / 4, slices()[0] / 4 + 0.5
    found = with_low_frequencies_of(images, example, 0.05)
    spectra = [torch.fft.fft2(each + 1) for each in (images, example, found)]
    reach = int(0.05 * 32)
    assert found.mean(dim=(1, 2, 3)).tolist() == pytest.approx([float(example.mean())] * 4, abs=1e-5)
    assert torch.allclose(spectra[2][..., reach, 0].abs(), spectra[1][..., reach, 0].abs(), atol=1e-3)
    assert torch.allclose(spectra[2][..., reach + 1, 0], spectra[0][..., reach + 1, 0], atol=1e-3)


def test_tissue_takes_the_intensities_of_the_example_and_air_stays() -> None:
    images = slices()
    images[:, :, :8] = -1
    example = slices()[:, :, :16] / 4 + 0.5
    found = with_intensities_of(images, example)
    tissue = images >= NO_AIR
    assert (found[~tissue] == -1).all()
    levels = torch.linspace(0, 1, 11)
    assert torch.allclose(found[tissue].quantile(levels), example.flatten().quantile(levels), atol=0.01)
    order = images[tissue].argsort()
    assert (found[tissue][order].diff() >= 0).all()
    assert (with_intensities_of(images, example, inverted=True)[tissue][order].diff() <= 0).all()


def test_degraded_images_depend_on_the_seed_and_not_on_the_batch() -> None:
    assert torch.equal(degrade(slices(), 3)[2:], degrade(slices()[2:], 3))
    assert not torch.equal(degrade(slices(), 3), degrade(slices(), 4))
    strengths = [float((degrade(slices(), seed) - slices()).abs().mean()) for seed in range(20)]
    assert min(strengths) < 0.05 < 0.2 < max(strengths)


def test_the_network_sees_the_imitation() -> None:
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(image)
            return image

    ChangedImages(Spy(), lambda images: images + 1)(slices())
    assert torch.equal(seen[0], slices() + 1)


@pytest.mark.slow
def test_the_guide_learns_source_images_and_leaves_the_network_as_it_was(
    networks: tuple[TargetGenerator, Segmenter],
) -> None:
    network = networks[1]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    volume = torch.full((1, 32, 32, 6), -1.0)
    volume[:, 8:24, 8:24] = 0.5

    def prepare(item: Any) -> dict[str, torch.Tensor]:
        return {"image": volume.clone(), "label": (volume > 0).float()}

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, label[:, 0])

    guides = [fine_tune_on_source(network, [{}], prepare, loss, "cpu", seed=0) for _ in range(2)]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(guides[0].parameters(), guides[1].parameters(), strict=True))
    with torch.no_grad():
        found = guides[0](volume.movedim(-1, 0)).argmax(dim=1)
    assert ((found > 0) == (volume[0] > 0).movedim(-1, 0)).float().mean() > 0.95


@pytest.mark.parametrize("sizes", [(9.0, 9.0, 8.0), (1.5, 1.5, 8.0), (1.0, 1.0, 1.0)])
def test_prepared_volumes_are_not_turned_again(sizes: tuple[float, float, float]) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        turn = Rotation.random(random_state=int(generator.integers(2**31))).as_matrix()
        affine = nib.affines.from_matvec(turn * np.array(sizes), generator.normal(0, 50, 3))
        image = MetaTensor(torch.rand(1, 16, 12, 5), affine=torch.as_tensor(affine))
        inferer = SliceSegmenter("acquired", (1.0, 1.0), {"mode": "window", "lower": -1, "upper": 1}, (16, 16), 2)
        turned = along_axes(inferer, image)
        assert inferer.orientation == "acquired"
        assert np.array_equal(slice_turn(affine, turned.orientation), [[0, 1], [1, 1], [2, 1]])
