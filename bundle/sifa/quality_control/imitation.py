"""Source slices made to look like target slices, at every quality, without their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.networks.target_generator import TargetGenerator
from sifa.networks.weights import guiding_classes, load_weights
from sifa.quality_control.target_style import (
    LARGEST_SHARE,
    LEAST_SHARE,
    with_intensities_of,
    with_low_frequencies_of,
)
from sifa.quality_control.views import random_appearance
from sifa.transforms.intensity import AIR

# What the slices of a calibration scan go through, in the order of the words
TRANSLATED = ("translated", "degraded_translated", "translated_degraded", "translated_appearance")
UNTRANSLATED = ("fourier", "degraded_fourier", "histogram", "degraded_histogram", "inverted_histogram")  # without G_t

MULTIPLE = 8  # of rows and columns that the networks take


def kinds_of_imitation(target_generator: nn.Module | None) -> tuple[str, ...]:
    """Returns the kinds of imitation that a run can make, with its G_t or without one."""
    return UNTRANSLATED if target_generator is None else TRANSLATED


class Imitation:
    """Makes one source scan look like a target scan: first the whole scan, then what the network sees of it.

    The label has no part in it: G_t that is guided by classes gets those that another network predicts.

    Args:
        kind: one of `kinds_of_imitation`.
        target_generator: G_t in evaluation mode; None: there is none.
        guide: network for source images that tells G_t what they show, in evaluation mode.
        examples: slices (N, C, H, W) of each target scan, whose style a run without G_t takes.
        seed: of the appearance, the degradation and the example.
    """

    def __init__(
        self,
        kind: str,
        target_generator: nn.Module | None,
        guide: nn.Module,
        examples: Sequence[torch.Tensor],
        seed: int,
    ) -> None:
        self.kind = kind
        self.target_generator = target_generator
        self.guide = guide
        self.examples = examples
        self.seed = seed
        rng = np.random.default_rng([seed, 3])
        self.example = int(rng.integers(len(examples))) if kind in UNTRANSLATED else -1  # number; -1: none
        self.known: dict[bytes, torch.Tensor] = {}

    def acquire(self, slices: torch.Tensor) -> torch.Tensor:
        """Returns all slices (N, C, H, W) in [-1, 1] of the scan as if they had been acquired so."""
        changed = degrade(slices, self.seed) if self.kind.startswith("degraded") else slices
        if self.kind not in UNTRANSLATED:
            return changed
        rng, example = np.random.default_rng([self.seed, 4]), self.examples[self.example]
        if self.kind.endswith("fourier"):
            share = float(rng.uniform(LEAST_SHARE, LARGEST_SHARE))
            return with_low_frequencies_of(changed, example[int(rng.integers(len(example)))], share)
        return with_intensities_of(changed, example, inverted=self.kind.startswith("inverted"))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Returns images (B, C, H, W) in [-1, 1] that look like the target."""
        keys = [image.numpy(force=True).tobytes() for image in images]
        new = [place for place, key in enumerate(keys) if key not in self.known]
        if new:
            self.known.update(zip((keys[place] for place in new), self._imitate(images[new]), strict=True))
        return torch.stack([self.known[key] for key in keys])

    @torch.no_grad()
    def _imitate(self, images: torch.Tensor) -> torch.Tensor:
        if self.target_generator is not None:
            images = translate(images, self.target_generator, self.guide)
        if self.kind.endswith("_degraded"):
            images = degrade(images, self.seed)
        return random_appearance(images, self.seed) if self.kind.endswith("_appearance") else images


@torch.no_grad()
def translate(images: torch.Tensor, target_generator: nn.Module, guide: nn.Module) -> torch.Tensor:
    """Returns G_t of source images (N, C, H, W) in [-1, 1]; a guided G_t gets the softmax of the guide's logits.

    Images are padded with air on the right and at the bottom to sizes that the networks take.
    """
    height, width = images.shape[2:]
    padded = nn.functional.pad(images, (0, -width % MULTIPLE, 0, -height % MULTIPLE), value=AIR)
    classes = guide(padded).softmax(dim=1) if target_generator.num_classes else None
    translated: torch.Tensor = target_generator(padded, classes)
    return translated[..., :height, :width]


def degrade(images: torch.Tensor, seed: int) -> torch.Tensor:
    """Returns images (N, C, H, W) in [-1, 1] with blur, a bias field, contrast and noise, each of random strength.

    The strengths depend on the seed alone, the noise also on the image, so that equal slices stay equal.
    """
    rng = np.random.default_rng([seed, 1])
    strength = rng.uniform(0, 1) ** 2 * rng.uniform(0, 1, 4)  # most scans are good
    signs = rng.choice([-1, 1], 2)
    changed = []
    for image in images.numpy(force=True).astype(np.float32):
        blurred = gaussian_filter(image, (0, 3 * strength[0], 3 * strength[0]))
        field = np.linspace(-1, 1, image.shape[1], dtype=np.float32)[:, None]
        share = np.clip((blurred + 1) / 2 * np.exp(strength[1] * signs[0] * field), 0, 1)
        share = share ** np.exp(1.5 * strength[2] * signs[1])
        noise = np.random.default_rng([seed, 2]).standard_normal(image.shape)
        changed.append(2 * share - 1 + 0.5 * strength[3] * noise)
    return torch.from_numpy(np.clip(changed, -1, 1).astype(np.float32)).to(images.device)


def load_target_generator(folder: Path, fingerprint: Fingerprint, device: str | torch.device) -> TargetGenerator | None:
    """Returns G_t of the run; None where its folder has none."""
    path = folder / "generators" / "target_generator.pt"
    if not path.is_file():
        return None
    channels = fingerprint.network.in_channels
    generator = TargetGenerator(channels, fingerprint.network.width, num_classes=guiding_classes(path, channels))
    load_weights(generator, path, device)
    return generator.to(device)
