"""Dictionary transforms that MONAI lacks, or that work differently there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.transforms import Spacingd as MonaiSpacingd
from monai.utils import convert_to_dst_type

from sifa.transforms.intensity import along_curve, intensity_window, normalize
from sifa.transforms.label_values import is_identity, map_labels
from sifa.transforms.orientation import slice_turn


class Spacingd(MonaiSpacingd):
    """MONAI's `Spacingd`, which here leaves entries such as MONAI Label's string `image_path` unchanged.

    In MONAI 1.6 the original calls `.update` on every entry whose name begins with `image_` and fails when one is not a
    dictionary.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Returns `data` with `data[key]` resampled for each key; other entries are unchanged."""
        entries = dict(data)
        held = {
            key: entries.pop(key)
            for key in list(entries)
            if isinstance(key, str)
            and key not in self.keys
            and not isinstance(entries[key], dict)
            and any(key.startswith(f"{image}_") for image in self.keys)
        }
        result = super().__call__(entries, lazy=lazy)
        result.update(held)
        return result


class NormalizeIntensityd(MapTransform):
    """Maps and clips intensities to [-1, 1] as in the fingerprint, then applies its curve, if there is one.

    Args:
        keys: images, shape (C, H, W[, D]).
        intensity: the fingerprint's entry of one domain; see `sifa.transforms.intensity.intensity_window`.
    """

    def __init__(self, keys: KeysCollection, intensity: Mapping[str, Any]) -> None:
        super().__init__(keys)
        self.intensity = intensity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` with float32 images in [-1, 1]."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = normalize(result[key], *intensity_window(torch.as_tensor(result[key]), self.intensity))
            result[key] = along_curve(image, self.intensity.get("curve"))
        return result


class MapLabelsd(MapTransform):
    """Replaces the values of labels: those of a data set by classes, or classes by the values that a mask is to hold.

    Args:
        keys: labels of whole numbers, any shape.
        label_map: new value of each value; None, or one that maps every value to itself: labels stay as they are.
        allow_missing_keys: whether keys that an item lacks are passed over.
        unless: entry of an item whose labels stay as they are.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_map: Mapping[int, int] | None,
        allow_missing_keys: bool = False,
        unless: str | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_map = None if label_map is None or is_identity(label_map) else dict(label_map)
        self.unless = unless

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` with int16 labels on their grids.

        Raises:
            sifa.utils.errors.InputError: when a value occurs that the map does not list.
        """
        result = dict(data)
        if self.label_map is None or result.get(self.unless) is not None:
            return result
        for key in self.key_iterator(result):
            values = torch.as_tensor(result[key]).as_subclass(torch.Tensor).numpy(force=True)
            mapped = map_labels(values, self.label_map)
            result[key] = convert_to_dst_type(mapped, result[key], dtype=torch.int16)[0]
        return result


class ShareGridd(MapTransform):
    """Gives all volumes of a subject the affine of the first key.

    An image and its label may be a tenth of a voxel apart by rounding, and must still be resampled alike.

    Args:
        keys: volumes (C, X, Y, Z) of one shape, with affines.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` with volumes on one grid."""
        result = dict(data)
        first, *others = self.key_iterator(result)
        for key in others:
            result[key] = result[key].clone()
            result[key].affine = result[first].affine.clone()
        return result


class SliceOrientationd(MapTransform):
    """Turns volumes so that rows, columns and slices are their axes; nothing is resampled.

    For axis codes it does what MONAI's `Orientationd` does.

    Args:
        keys: volumes (C, X, Y, Z) with an affine.
        orientation: axis codes (nibabel) of rows, columns and slices, or `acquired`; see `sifa.transforms.orientation`.
        allow_missing_keys: whether keys may be absent.
    """

    def __init__(self, keys: KeysCollection, orientation: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.orientation = orientation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` with volumes (C, H, W, D)."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = result[key]
            affine = volume.affine.numpy()
            turn = slice_turn(affine, self.orientation)
            reversed_axes = [1 + axis for axis, (_, sign) in enumerate(turn) if sign < 0]
            order = [0, *(1 + int(axis) for axis in np.argsort(turn[:, 0]))]
            shape = tuple(volume.shape[1:])
            result[key] = volume.flip(reversed_axes).permute(order).contiguous()
            result[key].affine = torch.from_numpy(affine @ nib.orientations.inv_ornt_aff(turn, shape))
        return result


class AlignGridd(MapTransform):
    """Replaces the affine of an oblique grid by the nearest one along the patient's axes; voxels stay as they are.

    Slices are cut along the grid as it was acquired. A tilt of a few degrees therefore changes neither the samples that
    `Spacingd` takes nor the agreement of training with inference, which samples along the grid as well.

    Args:
        keys: volumes (C, X, Y, Z) with an affine.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` with volumes whose affine has one entry per column: the signed voxel size in mm."""
        result = dict(data)
        for key in self.key_iterator(result):
            affine = result[key].affine.numpy()
            aligned = np.eye(4)
            aligned[:3, :3] = 0
            for column, (axis, sign) in enumerate(nib.io_orientation(affine)):
                aligned[int(axis), column] = sign * np.linalg.norm(affine[:3, column])
            result[key] = result[key].clone()
            result[key].affine = torch.from_numpy(aligned)
        return result
