"""Random appearance: global intensity non-linear augmentation (GIN) of images, which keeps the anatomy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch.nn import functional


class RandomAppearanced(Randomizable, MapTransform):
    """Applies global intensity non-linear augmentation (GIN, Ouyang et al., IEEE TMI 2023) to images.

    The image passes through a small convolutional network with random weights, kernels of 1x1 or 3x3 and leaky ReLU in
    between, and the result is blended with the image ("Causality-inspired single-source domain generalization for
    medical image segmentation"). Contrasts and textures change, and contrasts may be inverted; shapes stay the same.
    Unlike in the paper, the result is scaled to [-1, 1] before it is blended, with a weight drawn from [0, 1].

    Args:
        keys: images (C, H, W) in [-1, 1].
        prob: probability of changing an image.
        layers: number of convolutions.
        channels: number of channels between them.
        allow_missing_keys: whether keys may be missing from the data.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        layers: int = 4,
        channels: int = 2,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.prob = prob
        self.layers = layers
        self.channels = channels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` with augmented images of the same shapes, in [-1, 1]."""
        result = dict(data)
        for key in self.key_iterator(result):
            if self.R.random() < self.prob:
                result[key] = self._change(torch.as_tensor(result[key]).as_subclass(torch.Tensor))
        return result

    def _change(self, image: torch.Tensor) -> torch.Tensor:
        y = image[None]
        for layer in range(self.layers):
            last = layer == self.layers - 1
            size = int(self.R.choice([1, 3]))
            shape = (len(image) if last else self.channels, y.shape[1], size, size)
            weight = torch.from_numpy(self.R.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))
            bias = torch.from_numpy(self.R.standard_normal(shape[0]))
            padded = functional.pad(y, [size // 2] * 4, mode="replicate")
            y = functional.conv2d(padded, weight.to(image), bias.to(image))
            if not last:
                y = functional.leaky_relu(y, 0.2)
        low, high = y.amin(), y.amax()
        stretched = 2 * (y[0] - low) / (high - low).clamp(min=1e-6) - 1
        return torch.lerp(image, stretched.to(image), float(self.R.random()))
