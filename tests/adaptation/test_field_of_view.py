"""The stretch of a target scan that shows what source scans show, and that training draws from it alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
import torch
from builders import Array, read_json, write_nifti
from conftest import RECOMMENDED, TINY, run_bundle
from engines import go
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor
from sifa.adaptation.field_of_view import FieldOfView, best_range
from sifa.data.slice_cache import VolumeSlices, prepare_volumes
from sifa.data.unpaired_slices import UnpairedSampler, UnpairedSlices
from sifa.handlers import MatchedFieldOfView
from sifa.reports.scalar_table import read_columns
from sifa.training.checkpoint import NAME, read_state
from torch import nn


class Bright(nn.Module):
    """Finds a structure where the image is bright; counts the slices that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert not self.training
        self.shown += len(image)
        return torch.cat([torch.zeros_like(image), 9 * image], dim=1)


def scan(bright: range, slices: int, step: float) -> dict[str, Any]:
    """Returns a volume of this many slices, some of them bright, at a distance of `step` mm."""
    values = torch.full((slices, 1, 4, 4), -1.0)
    values[bright.start : bright.stop] = 1
    return {"image": values, "position": torch.arange(slices) * step}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 40))
def test_no_other_range_of_that_length_shows_more(foreground: list[float], slices: int) -> None:
    found = best_range(np.array(foreground), slices)

    assert found.stop - found.start == min(slices, len(foreground))
    others = [sum(foreground[first : first + slices]) for first in range(max(1, len(foreground) - slices + 1))]
    assert sum(foreground[found]) == pytest.approx(max(others))


@pytest.mark.parametrize("distance", [1.0, 4.0, 10.0])
def test_the_range_is_as_long_as_source_scans_in_millimeters_and_holds_the_structures(distance: float) -> None:
    target = VolumeSlices([scan(range(30, 60), 100, 1.0), scan(range(2, 12), 40, 3.0)])

    found = FieldOfView(target, length=30.0, distance=distance, batch_size=3).find(Bright())

    first, second = found[found < 100], found[found >= 100] - 100
    assert len(first) == 30
    assert abs(int(first[0]) - 30) <= distance
    assert len(second) == 10
    assert abs(int(second[0]) - 2) <= max(1, distance / 3)
    assert (np.diff(first) == 1).all()


def test_all_of_a_scan_that_is_hardly_longer_than_source_scans_is_taken_unseen() -> None:
    segmenter = Bright().train()
    target = VolumeSlices([scan(range(0, 1), 11, 3.0), scan(range(0, 1), 1, 0.0)])

    assert FieldOfView(target, length=30.0).find(segmenter).tolist() == list(range(12))
    assert segmenter.shown == 0
    assert len(FieldOfView(target, length=29.0).find(segmenter)) == 10 + 1
    assert segmenter.training


def test_positions_are_millimeters_along_the_slices_of_the_prepared_volume() -> None:
    affine = torch.diag(torch.tensor([0.5, 0.7, 2.5, 1.0]))
    volume = MetaTensor(torch.zeros(1, 4, 4, 3), affine=affine)

    slices = prepare_volumes([{"image": "-"}], lambda item: {"image": volume}, ("image",), "")

    assert torch.as_tensor(slices.volumes[0]["position"]).tolist() == [0.0, 2.5, 5.0]


class Slices:
    """The size of a data set."""

    source_size, target_size, labeled_size = 4, 100, 0

    def __len__(self) -> int:
        return 100


def test_from_the_second_epoch_on_training_draws_within_the_ranges_alone() -> None:
    drawn: list[Array] = []
    sampler = UnpairedSampler(cast(UnpairedSlices, Slices()), batch_size=10, iterations=10)
    target = VolumeSlices([scan(range(30, 60), 100, 1.0)])
    handler = MatchedFieldOfView(FieldOfView(target, length=25.0, distance=1.0), Bright(), sampler)

    def step(engine: Engine, batch: Any) -> None:
        if engine.state.iteration in (1, 5):
            drawn.append(np.array([draw.target_index for draw in sampler]))

    go([handler], step, epochs=3)

    assert sorted(drawn[0]) == list(range(100))
    assert sorted(drawn[1]) == sorted(list(range(30, 55)) * 4)


@pytest.mark.slow
def test_training_draws_from_part_of_target_scans_that_are_longer(phantom: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom, data)
    for item in read_json(data / "dataset.json")["target"]["training"]:
        image = cast(nib.Nifti1Image, nib.load(phantom / item["image"]))
        (axis,) = (axis for axis, code in enumerate(nib.orientations.aff2axcodes(image.affine)) if code in "AP")
        values = np.asanyarray(image.dataobj)
        write_nifti(data / item["image"], np.concatenate([values, values], axis=axis), image.affine)

    options = {**TINY, "random_appearance_weight": 1}
    run_bundle("training", RECOMMENDED, dataset_dir=data, output_dir=tmp_path / "run", **options)

    drawn = read_state(tmp_path / "run" / NAME)["target_slices"]
    fingerprint = read_json(tmp_path / "run" / "fingerprint.json")
    length, longer = (fingerprint[domain]["training"]["median_field_of_view"][2] for domain in ("source", "target"))
    assert longer > 1.5 * length
    step = fingerprint["target"]["training"]["median_spacing"][2]
    assert len(drawn) == pytest.approx(2 * length / step, abs=3)
    assert (read_columns(tmp_path / "run" / "scalars.csv")["random_appearance"] > 0).all()
