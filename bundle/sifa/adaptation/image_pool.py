"""A pool of earlier fakes for the discriminators (Shrivastava et al., CVPR 2017; CycleGAN)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sifa.utils.errors import InputError


class ImagePool:
    """Keeps up to `size` earlier fakes and returns for each new one either itself or, with probability 1/2, an old one.

    An old image that is returned leaves the pool, and the new one takes its place. With `size` 0 the pool returns every
    image unchanged, which is what the authors' code does in effect: its pool stores images but always returns the new
    ones.

    Args:
        size: number of images in the pool.
        seed: seed of the pool's own random numbers.

    Raises:
        InputError: when `size` is negative.
    """

    def __init__(self, size: int = 0, seed: int = 0) -> None:
        if size < 0:
            raise InputError(f"pool_size is {size}: set it to 0, which switches the pool off, or to a positive number.")
        self.size = size
        self.images: list[torch.Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Maps fakes (B, C, H, W) without gradient to the same number of fakes, new or old."""
        if self.size == 0:
            return images
        return torch.stack([self._exchange(image) for image in images])

    def state_dict(self) -> dict[str, Any]:
        """Returns the images of the pool, on the CPU, and the state of its random numbers."""
        return {"images": [image.cpu() for image in self.images], "random": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.images = list(state["images"])
        self.generator.set_state(state["random"])

    def _exchange(self, image: torch.Tensor) -> torch.Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if torch.rand((), generator=self.generator) < 0.5:
            return image
        index = int(torch.randint(self.size, (), generator=self.generator))
        old = self.images[index].to(image.device)  # after a resume, images are on the device that they were read to
        self.images[index] = image.clone()
        return old
