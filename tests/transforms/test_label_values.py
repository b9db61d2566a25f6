"""Values of labels and classes: mapped to each other exactly, and refused where a value has no class."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from builders import refusal
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from sifa.transforms.dictionary import MapLabelsd
from sifa.transforms.label_values import HIGHEST, LOWEST, is_identity, map_labels

VALUES = st.integers(LOWEST, HIGHEST)


@given(st.lists(VALUES, min_size=1, max_size=6, unique=True), st.integers(0, 2**32 - 1))
def test_values_become_classes_and_classes_values_again(values: list[int], seed: int) -> None:
    classes = np.random.default_rng(seed).integers(0, len(values), (3, 4, 20))
    stored = np.array(values)[classes]
    to_classes = {value: index for index, value in enumerate(values)}

    for kind in (np.int16, np.float32, np.float64, np.int64):
        found = map_labels(stored.astype(kind), to_classes)
        assert found.dtype == np.int16
        assert np.array_equal(found, classes)
    if min(values) >= 0:
        back = {index: value for value, index in to_classes.items()}
        assert np.array_equal(map_labels(classes.astype(np.uint8), back), stored)


def test_several_values_may_be_one_class_and_rounding_does_not_matter() -> None:
    stored = np.array([[0.0, 204.9995, 420.0005, 421.0, 550.0]])

    assert map_labels(stored, {0: 0, 205: 1, 420: 2, 421: 2, 550: 0}).tolist() == [[0, 1, 2, 2, 0]]


@pytest.mark.parametrize("value", [3, -1, 40_000, -40_000, 164])
def test_a_value_without_a_class_is_refused(value: int) -> None:
    message = refusal(lambda: map_labels(np.array([[0, 205, value]]), {0: 0, 205: 1}))

    assert f"the value {value}," in message
    assert "0, 205" in message


def test_an_identity_leaves_labels_as_they_are() -> None:
    label = MetaTensor(torch.tensor([[[[0.0, 1.0001, 7.0]]]]))

    for label_map in (None, {}, {0: 0, 1: 1, 2: 2}):
        assert MapLabelsd("label", label_map)({"label": label})["label"] is label
    assert is_identity({0: 0, 1: 1})
    assert not is_identity({0: 0, 1: 1, 5: 1})


def test_labels_are_mapped_on_their_grid_and_missing_ones_may_be_passed_over() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    data: dict[Hashable, Any] = {
        "label": MetaTensor(torch.tensor([[[[0.0, 205.0, 420.0]]]]), affine=affine),
        "image": 1,
    }
    transform = MapLabelsd("label", {0: 0, 205: 1, 420: 2}, allow_missing_keys=True)

    found = transform(data)

    assert found["label"].flatten().tolist() == [0, 1, 2]
    assert torch.equal(found["label"].affine, affine)
    assert found["image"] == 1
    assert data["label"].flatten().tolist() == [0, 205, 420]
    assert transform({"image": 1}) == {"image": 1}
    unless = MapLabelsd("label", {0: 0, 205: 1, 420: 2}, unless="result_dtype")
    assert unless({**data, "result_dtype": "uint8"})["label"] is data["label"]
    assert torch.equal(unless({**data, "result_dtype": None})["label"], found["label"])
    with pytest.raises(KeyError):
        MapLabelsd("label", {0: 0, 205: 1})({"image": 1})
