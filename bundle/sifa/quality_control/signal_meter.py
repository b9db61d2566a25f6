"""Measures the signals of a segmented scan; calibration and inference use the same code."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.results import Segmentation
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.networks.batch_norm import for_inference
from sifa.quality_control.imitation import Images, ImitatingNetwork
from sifa.quality_control.signals import agreement, soft_dice, volume_plausibility
from sifa.quality_control.views import RandomAppearance, with_statistics_of

FAST = ("soft_dice", "batch_norm", "volume")  # one more inference
FULL = (*FAST, "appearance")
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
        segmentation: Segmentation,
        network: nn.Module,
        device: str | torch.device,
        imitation: Images | None = None,
    ) -> dict[str, dict[str, float]]:
        """Returns the signals of each structure by name.

        Args:
            volume: intensities (C, X, Y, Z) with an affine (a MetaTensor).
            segmentation: of this scan, as the inferer returned it.
            network: that made it, with its batch norm, in evaluation mode, on `device`.
            device: where the network runs.
            imitation: what the network sees in the place of the images; None: the images.
        """
        labels = segmentation.labels.numpy()
        affine = volume.affine.numpy(force=True) if isinstance(volume, MetaTensor) else np.eye(4)
        voxel_ml = float(np.prod(nib.affines.voxel_sizes(affine))) / 1000
        classes = self.fingerprint.network.out_channels
        voxels = np.bincount(labels.ravel(), minlength=classes)
        agreements = {}
        if "batch_norm" in self.signals:
            agreements["batch_norm"] = self._under_own_statistics(volume, labels, network, device, imitation)
        if "appearance" in self.signals:
            fused = for_inference(network)
            changed = (RandomAppearance(fused, seed) for seed in range(APPEARANCES))
            agreements["appearance"] = np.mean(
                [self._agreement(volume, labels, each, device, imitation) for each in changed], axis=0
            )
        measured = {}
        for value, name in self.fingerprint.structure_names.items():
            known = self.fingerprint.structures.get(name)
            kept = voxels[value] / max(voxels[value] + segmentation.dropped[value], 1)
            inside, mass = segmentation.confidence[value], segmentation.mass[value]
            found = {
                "soft_dice": soft_dice(kept * inside, kept * segmentation.pixels[value], mass - (1 - kept) * inside),
                "volume": volume_plausibility(voxels[value] * voxel_ml, known.min, known.max) if known else 1.0,
                **{signal: float(each[value]) for signal, each in agreements.items()},
            }
            measured[name] = {signal: float(found[signal]) if voxels[value] else 0.0 for signal in self.signals}
        return measured

    def _agreement(
        self,
        volume: torch.Tensor,
        labels: np.ndarray,
        network: nn.Module,
        device: str | torch.device,
        imitation: Images | None,
    ) -> np.ndarray:
        seen = network if imitation is None else ImitatingNetwork(network, imitation)
        other = self.inferer.segment(volume, seen, device).labels.numpy()
        return agreement(labels, other, self.fingerprint.network.out_channels)

    def _under_own_statistics(
        self,
        volume: torch.Tensor,
        labels: np.ndarray,
        network: nn.Module,
        device: str | torch.device,
        imitation: Images | None,
    ) -> np.ndarray:
        slices = self.inferer.sample_slices(volume, SLICES, device)
        if not len(slices):
            return np.ones(self.fingerprint.network.out_channels)
        images = slices if imitation is None else imitation(slices)
        own = with_statistics_of(network, images.split(self.inferer.windows_at_once))
        return self._agreement(volume, labels, for_inference(own), device, imitation)
