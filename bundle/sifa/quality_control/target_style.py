"""Source slices in the style of target slices, for runs without G_t; the anatomy stays."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from sifa.transforms.intensity import AIR, NO_AIR

LEAST_SHARE, LARGEST_SHARE = 0.01, 0.09  # of the spectrum along each axis, on both sides of its center
QUANTILES = np.linspace(0, 1, 257)


def with_low_frequencies_of(images: torch.Tensor, example: torch.Tensor, share: float) -> torch.Tensor:
    """Returns images with the amplitudes that an example has at low frequencies.

    Fourier domain adaptation (FDA, Yang and Soatto, CVPR 2020), with air at 0: phases, which hold the
    shapes, stay. So does the air around the body, which phases alone would fill.

    Args:
        images: (N, C, H, W) in [-1, 1].
        example: a slice of the target (C, h, w), which is resized.
        share: of the spectrum that is exchanged, along each axis on both sides of its center.
    """
    height, width = images.shape[2:]
    resized = functional.interpolate(example[None].to(images), (height, width))
    spectrum, other = (torch.fft.fftshift(torch.fft.fft2(each + 1), dim=(-2, -1)) for each in (images, resized))
    reach = int(share * min(height, width))
    rows, columns = (slice(size // 2 - reach, size // 2 + reach + 1) for size in (height, width))
    amplitudes = spectrum.abs()
    amplitudes[..., rows, columns] = other.abs()[..., rows, columns]
    changed = torch.fft.ifft2(torch.fft.ifftshift(torch.polar(amplitudes, spectrum.angle()), dim=(-2, -1)))
    return torch.where(images >= NO_AIR, (changed.real - 1).clamp(-1, 1), images)


def with_intensities_of(images: torch.Tensor, examples: torch.Tensor, inverted: bool = False) -> torch.Tensor:
    """Returns images whose tissue has the distribution of intensities of the examples' tissue; air stays.

    Args:
        images: all slices of a scan (N, C, H, W) in [-1, 1].
        examples: slices of a target scan (M, C, h, w).
        inverted: whether the brightest tissue becomes the darkest; nothing tells what is bright in the target.
    """
    is_tissue, example = images >= NO_AIR, examples[examples >= NO_AIR]
    if not bool(is_tissue.any()) or not len(example):
        return images
    tissue = images[is_tissue].numpy(force=True)
    shares = 1 - QUANTILES if inverted else QUANTILES
    matched = np.interp(tissue, np.quantile(tissue, QUANTILES), np.quantile(example.numpy(force=True), shares))
    changed = torch.full_like(images, AIR)
    changed[is_tissue] = torch.from_numpy(matched).to(images)
    return changed
