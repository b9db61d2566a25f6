"""Batch norm's running statistics as target slices have them, and when training measures them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import refusal
from conftest import BUNDLE
from engines import go, saver
from iterations import build_networks
from monai.bundle import ConfigParser
from sifa.adaptation.target_statistics import TargetStatistics
from sifa.data.slice_cache import VolumeSlices
from sifa.handlers import BatchNormStatistics
from sifa.networks import Segmenter
from torch import nn

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def draw_slices(count: int, seed: int = 0) -> torch.Tensor:
    """Slices (N, 1, 16, 32) in [-1, 1]; no two are alike in brightness."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.linspace(-0.8, 0.8, count, dtype=torch.float64)[:, None, None, None]
    return (brightness + 0.2 * torch.rand(count, 1, 16, 32, dtype=torch.float64, generator=generator)).clamp(-1, 1)


def slices_of(*volumes: torch.Tensor) -> VolumeSlices:
    return VolumeSlices([{"image": volume} for volume in volumes])


def norms_of(segmenter: Segmenter) -> list[nn.BatchNorm2d]:
    return [layer for layer in segmenter.modules() if isinstance(layer, nn.BatchNorm2d)]


def statistics_of(segmenter: Segmenter) -> list[torch.Tensor]:
    return [getattr(layer, name).clone() for layer in norms_of(segmenter) for name in STATISTICS]


def measured(slices: VolumeSlices, **options: Any) -> list[torch.Tensor]:
    segmenter = build_networks().segmenter
    TargetStatistics(slices, **options).measure(segmenter)
    return statistics_of(segmenter)


def test_the_statistics_are_the_means_of_those_of_batches_in_every_layer() -> None:
    images = draw_slices(7)
    segmenter, reference = build_networks().segmenter, build_networks().segmenter.train()
    inputs: dict[nn.Module, list[torch.Tensor]] = {}
    for layer in norms_of(reference):
        layer.register_forward_pre_hook(lambda layer, given: inputs.setdefault(layer, []).append(given[0].detach()))
    for batch in (images[:3], images[3:6], images[6:]):
        reference(batch)

    TargetStatistics(slices_of(images[:4], images[4:]), batch_size=3).measure(segmenter)

    for layer, restated in zip(norms_of(segmenter), norms_of(reference), strict=True):
        mean = torch.stack([given.mean((0, 2, 3)) for given in inputs[restated]]).mean(0)
        variance = torch.stack([given.var((0, 2, 3), unbiased=True) for given in inputs[restated]]).mean(0)
        torch.testing.assert_close(layer.running_mean, mean, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(layer.running_var, variance, rtol=1e-9, atol=1e-12)
        assert layer.num_batches_tracked == 3


@pytest.mark.parametrize("training", [True, False])
def test_nothing_but_the_statistics_changes(training: bool) -> None:
    segmenter = build_networks().segmenter.train(training)
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    momenta = [layer.momentum for layer in norms_of(segmenter)]

    TargetStatistics(slices_of(draw_slices(4))).measure(segmenter)

    changed = {name for name, value in segmenter.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.endswith(STATISTICS)}
    assert all(layer.training is training for layer in segmenter.modules())
    assert [layer.momentum for layer in norms_of(segmenter)] == momenta
    assert all(parameter.grad is None for parameter in segmenter.parameters())


def test_what_the_statistics_were_before_does_not_matter() -> None:
    segmenter = build_networks().segmenter
    statistics = TargetStatistics(slices_of(draw_slices(4)))
    statistics.measure(segmenter)
    first = statistics_of(segmenter)
    segmenter.train()(draw_slices(2, seed=1) + 5)
    statistics.measure(segmenter)
    for one, other in zip(first, statistics_of(segmenter), strict=True):
        assert torch.equal(one, other)


def test_slices_of_nothing_but_air_are_left_out() -> None:
    images = draw_slices(5)
    air = torch.full((3, 1, 16, 32), -1.0, dtype=torch.float64)
    expected = measured(slices_of(images), batch_size=2)

    found = measured(slices_of(air, images[:2], air[:1], images[2:], air), batch_size=2)

    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert any(not torch.equal(*pair) for pair in zip(measured(slices_of(images[:4])), expected, strict=True))


class Recorded(VolumeSlices):
    """Slices that remember which of them were looked at."""

    def __init__(self, count: int) -> None:
        super().__init__([{"image": draw_slices(count)}])
        self.taken: list[int] = []

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self.taken.append(index)
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("size", "count", "expected"),
    [(9, 3, [0, 4, 8]), (9, 5, [0, 2, 4, 6, 8]), (4, 100, [0, 1, 2, 3]), (4, 4, [0, 1, 2, 3]), (9, 1, [0])],
)
def test_no_more_slices_than_asked_for_are_taken_evenly(size: int, count: int, expected: list[int]) -> None:
    slices = Recorded(size)
    TargetStatistics(slices, count).measure(build_networks().segmenter)
    assert slices.taken == expected


@pytest.mark.parametrize(("size", "count"), [(0, 256), (4, 0)])
def test_without_a_slice_to_measure_on_the_settings_are_refused(size: int, count: int) -> None:
    slices = slices_of(draw_slices(size)) if size else VolumeSlices()
    message = refusal(lambda: TargetStatistics(slices, count))
    for part in ("on 0 target slices", "statistics_slices", "or to 0 for no measurement"):
        assert part in message


def test_where_all_slices_are_air_the_network_keeps_its_statistics_and_the_user_is_told() -> None:
    segmenter = build_networks().segmenter
    before = statistics_of(segmenter)
    statistics = TargetStatistics(slices_of(torch.full((3, 1, 16, 32), -1.0)), 2)
    message = refusal(lambda: statistics.measure(segmenter))
    assert "show only air" in message
    assert "statistics_slices" in message
    assert all(torch.equal(*pair) for pair in zip(before, statistics_of(segmenter), strict=True))


# --- When ------------------------------------------------------------------------------------------------------------


def test_the_model_that_is_written_has_the_statistics_that_were_measured(tmp_path: Path) -> None:
    images = draw_slices(4)
    segmenter = build_networks().segmenter
    reference = build_networks().segmenter
    statistics = TargetStatistics(slices_of(images))
    statistics.measure(reference)
    go([BatchNormStatistics(statistics, segmenter), saver(segmenter, tmp_path)])
    written = torch.load(tmp_path / "model.pt", weights_only=True)
    for name, value in reference.state_dict().items():
        assert torch.equal(written[name], value), name


def test_statistics_are_measured_once_an_epoch() -> None:
    seen: list[Segmenter] = []

    class Counted(TargetStatistics):
        def measure(self, segmenter: Segmenter) -> None:
            seen.append(segmenter)

    segmenter = build_networks().segmenter
    go([BatchNormStatistics(Counted(slices_of(draw_slices(2))), segmenter)], epochs=3)
    assert seen == [segmenter] * 3


@pytest.mark.parametrize("last", ["compact.yaml", "monailabel.yaml"])
def test_the_configs_measure_before_anything_uses_or_writes_the_exported_network(last: str) -> None:
    names = ("train.yaml", "recommended.yaml", last)
    content: Any = ConfigParser.load_config_files([str(BUNDLE / "configs" / name) for name in names])
    train = content["train"]
    handlers: list[dict[str, Any]] = []
    for handler in train["handlers"]:
        group = handler.get("handlers") == "@train#network_handlers"
        handlers += train["network_handlers"] if group else [handler]
    kinds = [handler["_target_"].rsplit(".", 1)[-1] for handler in handlers]
    place = kinds.index("BatchNormStatistics")
    later = {"ModelSaver", "WeightsInstaller", "ValidationSchedule", "StateSaver"} & set(kinds)
    assert "ModelSaver" in later
    assert all(kinds.index(kind) > place for kind in later)
    assert {handler["segmenter"] for handler in handlers if "segmenter" in handler} == {"@exported_network"}
