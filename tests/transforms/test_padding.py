"""Padding: crops around labels, marks that become masks, and one frame of air for both domains."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from sifa.transforms import CommonFramed, CropAroundLabeld, SplitPaddingd
from sifa.transforms.padding import PADDING, without_marks


def volume(rows: int, columns: int) -> torch.Tensor:
    """Returns an image (1, rows, columns, 2) with a different intensity in [-1, 1] in each pixel of a slice."""
    image = torch.linspace(-1, 1, rows * columns).reshape(1, rows, columns, 1)
    return image.expand(1, rows, columns, 2).clone()


def cropped(rows: int, columns: int, box: tuple[slice, slice] | None, size: tuple[int, int]) -> dict[str, Any]:
    image = volume(rows, columns)
    label = torch.zeros_like(image)
    if box is not None:
        label[:, box[0], box[1]] = 2
    item: dict[Hashable, Any] = {"image": MetaTensor(image), "label": MetaTensor(label)}
    return dict[Any, Any](CropAroundLabeld(["image", "label"], size, PADDING)(item))


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((slice(10, 14), slice(6, 10)), slice(8, 16), slice(4, 12)),  # around the middle of the label
        ((slice(0, 2), slice(18, 20)), slice(0, 8), slice(12, 20)),  # within the image
        (None, slice(6, 14), slice(6, 14)),  # without a label around the middle of the image
    ],
)
def test_crops_lie_around_the_label_and_within_the_image(
    box: tuple[slice, slice] | None, rows: slice, columns: slice
) -> None:
    found = cropped(20, 20, box, (8, 8))
    assert torch.equal(found["image"].as_tensor(), volume(20, 20)[:, rows, columns])
    assert int((found["label"] == 2).sum()) == (0 if box is None else 2 * 16 if box[0].start else 2 * 4)


def test_smaller_images_are_padded_with_marks_and_their_labels_with_background() -> None:
    found = cropped(4, 20, (slice(0, 4), slice(2, 4)), (8, 8))
    image, label = found["image"].as_tensor(), found["label"].as_tensor()
    assert image.shape == label.shape == (1, 8, 8, 2)
    assert torch.equal(image[:, 2:6], volume(4, 20)[:, :, 0:8])
    assert (image[:, [0, 1, 6, 7]] == PADDING).all()
    assert int(label.sum()) == 2 * 4 * 2 * 2


def test_marks_become_air_and_a_mask() -> None:
    image = torch.tensor([[[PADDING, -1.0], [0.25, 1.0]]])
    found = SplitPaddingd(["target_image", "absent"])({"target_image": image})
    assert torch.equal(found["target_image"], torch.tensor([[[-1.0, -1.0], [0.25, 1.0]]]))
    assert torch.equal(found["target_image_inside"], torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]))
    assert torch.equal(found["target_image"], without_marks(image))
    assert torch.equal(image, torch.tensor([[[PADDING, -1.0], [0.25, 1.0]]]))  # the input is as it was


def test_what_either_image_lacks_is_air_in_both_and_background_in_the_label() -> None:
    rng = np.random.default_rng(0)
    source, target = (torch.from_numpy(rng.uniform(-1, 1, (1, 6, 6)).astype(np.float32)) for _ in range(2))
    masks = [torch.from_numpy((rng.random((1, 6, 6)) > 0.3).astype(np.float32)) for _ in range(2)]
    sample: dict[Hashable, Any] = {
        "source_image": source,
        "target_image": target,
        "source_label": torch.ones(1, 6, 6, dtype=torch.uint8),
    }
    sample |= {"source_image_inside": masks[0], "target_image_inside": masks[1]}
    sample |= {"labeled_target_image_inside": masks[0]}

    found = CommonFramed()(sample)

    inside = (masks[0] * masks[1]) > 0
    assert set(found) == {"source_image", "target_image", "source_label", "inside"}
    assert torch.equal(found["inside"], inside)
    for name, image in (("source_image", source), ("target_image", target)):
        assert torch.equal(found[name][inside], image[inside])
        assert (found[name][~inside] == -1).all()
    assert torch.equal(found["source_label"].bool(), inside)
    assert found["source_label"].dtype == torch.uint8


def test_samples_without_masks_stay_as_they_are() -> None:
    sample: dict[Hashable, Any] = {"target_image": torch.zeros(1, 2, 2)}
    assert CommonFramed()(sample) == sample
