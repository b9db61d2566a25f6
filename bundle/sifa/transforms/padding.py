"""Padding around slices that training does not see: marked in prepared slices, split off, and equal in both domains."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, ResizeWithPadOrCrop, Transform

from sifa.transforms.intensity import AIR
from sifa.transforms.slices import middle_of_labels

PADDING = -2.0  # marks padding in prepared slices; images are in [-1, 1]
BETWEEN = -1.5
INSIDE = "inside"  # entry of a sample: true where both images show something that was scanned


class CropAroundLabeld(MapTransform):
    """Crops an image and its label in the plane around the middle of the label, and pads them where they are smaller.

    The crop lies within the image as far as the image is larger.

    Args:
        keys: the image and its label, (C, H, W, D).
        size: rows and columns of the result.
        padding: value around the image; that around the label is 0.
    """

    def __init__(self, keys: KeysCollection, size: Sequence[int], padding: float) -> None:
        super().__init__(keys)
        self.size = tuple(size)
        self.padding = padding

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` with image and label of this size."""
        result = dict(data)
        image, label = self.key_iterator(result)
        middles = middle_of_labels(np.moveaxis(np.asarray(result[label])[0], -1, 0))
        shape = result[image].shape[1:3]
        parts = [_within(middle, size, wanted) for middle, size, wanted in zip(middles, shape, self.size, strict=True)]
        for key, value in ((image, self.padding), (label, 0)):
            cropped = result[key][:, parts[0], parts[1]]
            result[key] = ResizeWithPadOrCrop([*self.size, -1], value=value)(cropped)
        return result


def _within(middle: float, size: int, wanted: int) -> slice:
    """Returns the part of an axis of this size that has the wanted length, if it can, and lies around an index."""
    start = round(min(max(0.0, middle - (wanted - 1) / 2), max(0, size - wanted)))
    return slice(start, start + min(size, wanted))


class SplitPaddingd(MapTransform):
    """Replaces marked padding by air, and adds the entry `<key>_inside`: 1 where the image was scanned, 0 in padding.

    Args:
        keys: slices (C, H, W) with `PADDING` outside what was scanned.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys, allow_missing_keys=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` with images in [-1, 1] and masks (1, H, W), float32."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[f"{key}_{INSIDE}"] = (result[key][:1] > BETWEEN).to(torch.float32)
            result[key] = without_marks(result[key])
        return result


class CommonFramed(Transform):
    """Gives the two images of a sample the same frame of air, so that padding does not tell one domain from the other.

    What either image does not show is air in both, and background in the label of the source. The entry `inside`
    (1, H, W) is true within the frame and false outside. Samples without masks stay as they are.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` without the masks of single images, and with `inside`."""
        result = dict(data)
        result.pop(f"labeled_target_image_{INSIDE}", None)  # it meets no image of the other domain
        masks = [result.pop(f"{name}_{INSIDE}", None) for name in ("source_image", "target_image")]
        found = [torch.as_tensor(mask) for mask in masks if mask is not None]
        if not found:
            return result
        inside = torch.stack(found).amin(dim=0) > 0.5
        for name, outside in (("source_image", AIR), ("target_image", AIR), ("source_label", 0)):
            if name in result:
                result[name] = torch.where(inside, result[name], outside).to(result[name].dtype)
        result[INSIDE] = inside
        return result


def without_marks(image: torch.Tensor) -> torch.Tensor:
    """Returns prepared images with air in the place of marked padding."""
    return image.clamp(min=AIR)
