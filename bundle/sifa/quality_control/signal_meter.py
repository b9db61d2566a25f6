"""Measures the signals of a segmented scan; calibration and inference use the same code."""

from __future__ import annotations

from functools import partial

import nibabel as nib
import numpy as np
import torch
from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.results import Segmentation
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.networks.batch_norm import for_inference
from sifa.quality_control.signals import (
    agreement,
    count_along_axes,
    position_plausibility,
    shape_plausibility,
    soft_dice,
    volume_plausibility,
)
from sifa.quality_control.views import ChangedImages, ImageMap, random_appearance, with_statistics_of
from sifa.transforms.slices import affine_of

FAST = ("soft_dice", "batch_norm", "volume")  # one more inference
FULL = (*FAST, "position", "shape", "appearance")
SIGNALS = {"fast": FAST, "full": FULL}
APPEARANCES = 2  # views of random appearance
SLICES = 32  # of a scan, on which its batch-norm statistics are measured


class SignalMeter:
    """Measures signals of the masks of a network.

    Args:
        inferer: that made the masks.
        fingerprint: of the network.
        signals: which of `FULL`.
    """

    def __init__(self, inferer: SliceSegmenter, fingerprint: Fingerprint, signals: tuple[str, ...] = FAST) -> None:
        self.inferer = inferer
        self.fingerprint = fingerprint
        self.signals = signals

    def measure(
        self,
        volume: torch.Tensor,
        slices: torch.Tensor,
        segmentation: Segmentation,
        network: nn.Module,
        device: str | torch.device,
        imitation: ImageMap | None = None,
    ) -> dict[str, dict[str, float]]:
        """Returns the signals of each structure, by name, whose mask is not empty.

        Args:
            volume: intensities (C, X, Y, Z) with an affine (a MetaTensor).
            slices: some of this scan as the network sees them (N, C, H, W); see `SliceSegmenter.sample_slices`.
            segmentation: of this scan, as the inferer returned it.
            network: that made it, with its batch norm, in evaluation mode, on `device`.
            device: where the network runs.
            imitation: what the network sees in the place of the images; None: the images.
        """
        labels = segmentation.labels.numpy()
        voxel_ml = float(np.prod(nib.affines.voxel_sizes(affine_of(volume)))) / 1000
        classes = self.fingerprint.network.out_channels
        counts = count_along_axes(labels, classes, axes=3 if "position" in self.signals else 1)
        voxels = counts[0].sum(axis=0)

        def agree(other: nn.Module) -> np.ndarray:
            seen = other if imitation is None else ChangedImages(other, imitation)
            return agreement(labels, self.inferer.segment(volume, seen, device).labels.numpy(), classes)

        agreements = {}
        if "batch_norm" in self.signals:
            own = self._with_statistics_of(slices, network)
            agreements["batch_norm"] = np.ones(classes) if own is None else agree(own)
        if "appearance" in self.signals:
            fused = self.inferer.fuse(network)
            changes = (partial(random_appearance, seed=seed) for seed in range(APPEARANCES))
            agreements["appearance"] = np.mean([agree(ChangedImages(fused, change)) for change in changes], axis=0)
        plausible: dict[str, dict[int, float]] = {}
        affine, priors = affine_of(volume), self.fingerprint.spatial_prior
        if "position" in self.signals:
            plausible["position"] = position_plausibility(counts, affine, priors)
        if "shape" in self.signals:
            plausible["shape"] = shape_plausibility(labels, affine, priors)
        measured = {}
        for value, name in self.fingerprint.structure_names.items():
            if not voxels[value]:
                continue
            known = self.fingerprint.structures.get(name)
            kept = voxels[value] / (voxels[value] + segmentation.dropped[value])
            inside, mass = segmentation.confidence[value], segmentation.mass[value]
            found = {
                "soft_dice": soft_dice(kept * inside, kept * segmentation.pixels[value], mass - (1 - kept) * inside),
                "volume": volume_plausibility(voxels[value] * voxel_ml, known.min, known.max) if known else 1.0,
                **{signal: each.get(value, 1.0) for signal, each in plausible.items()},
                **{signal: float(each[value]) for signal, each in agreements.items()},
            }
            measured[name] = {signal: float(found[signal]) for signal in self.signals}
        return measured

    def _with_statistics_of(self, slices: torch.Tensor, network: nn.Module) -> nn.Module | None:
        """Returns the fused network with batch-norm statistics of slices; None where the scan shows only air."""
        if not len(slices):
            return None
        return for_inference(with_statistics_of(network, slices.split(self.inferer.windows_at_once)))
