"""The inferer: slice-wise C(E(x)) over a whole scan in its own grid, a slab of slices at a time.

Each slab is normalized, resampled to the fingerprint's pixel size, segmented with sliding windows whose probabilities
are averaged, reduced to labels and resampled to the scan's own pixels before the next slab begins. Only the scan and
its uint8 mask are held in memory as a whole.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, sliding_window_inference
from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.input_checks import check_scan
from sifa.inference.precision import faster_precision
from sifa.inference.probability_volume import store_slab
from sifa.inference.region_of_interest import find_region, windows_over
from sifa.inference.results import UNCERTAINTY_SCALE, Segmentation
from sifa.networks.batch_norm import for_inference
from sifa.postprocessing.pamr import refine_with_pamr
from sifa.postprocessing.spatial_prior import SpatialPriors, remove_implausible_components
from sifa.transforms.intensity import AIR, AIR_THRESHOLD, intensity_window
from sifa.transforms.resampling import sample_positions
from sifa.transforms.slices import Region, ScanSlices, affine_of, as_slices, slice_steps
from sifa.utils.errors import InputError

logger = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16", "auto")
# Arguments of `SliceSegmenter` that change no mask; the fingerprint is hashed as a file.
HARMLESS = ("windows_at_once", "slices_at_once", "uncertainty", "fingerprint")

Network = Callable[[torch.Tensor], torch.Tensor]


class SliceSegmenter(Inferer):
    """Segments volumes in any storage order, slice by slice in the fingerprint's plane or along their own slices.

    Args:
        orientation: axis codes (nibabel) of rows, columns and slices, or `acquired`.
        pixel_spacing: pixel size in mm, rows and columns, that the network was trained on.
        intensity: the fingerprint's entry of the target; see `sifa.transforms.intensity.intensity_window`.
        slice_size: rows and columns of a window.
        classes: number of classes, background included.
        overlap: of neighboring windows, as a share of the window.
        windows_at_once: windows in one forward pass.
        slices_at_once: slices in a slab.
        pamr_iterations: iterations of PAMR (`sifa.postprocessing.pamr`), which moves outlines to edges; 0: none.
        spatial_prior: of structures that are one connected component; components that contradict it are removed (see
            `sifa.postprocessing.spatial_prior`). None or empty: all components are kept.
        precision: `float32`, `bfloat16` for autocast, or `auto`: the faster one in a trial before the first scan.
        region_step: distance in mm of the slices of a first, coarse pass that finds the region of interest; only this
            region is then segmented. None: no coarse pass.
        region_margin: mm by which the region of interest is widened on every side.
        region_island: smallest size of a component in the coarse pass that counts, as a share of the largest component
            of its structure.
        uncertainty: whether to return the entropy of each voxel as well.
        fingerprint: what scans that reach `__call__` are compared with; None: they are not checked.

    Raises:
        InputError: when the precision is none of these.
    """

    def __init__(
        self,
        orientation: str,
        pixel_spacing: Sequence[float],
        intensity: Mapping[str, Any],
        slice_size: Sequence[int],
        classes: int,
        overlap: float = 0.25,
        windows_at_once: int = 8,
        slices_at_once: int = 16,
        pamr_iterations: int = 0,
        spatial_prior: SpatialPriors | None = None,
        precision: str = "float32",
        region_step: float | None = None,
        region_margin: float = 20.0,
        region_island: float = 0.05,
        uncertainty: bool = False,
        fingerprint: Fingerprint | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"--precision {precision}: choose {', '.join(PRECISIONS)}.")
        super().__init__()
        self.orientation = orientation
        self.pixel_spacing = pixel_spacing
        self.intensity = intensity
        self.slice_size = tuple(slice_size)
        self.classes = classes
        self.overlap = overlap
        self.windows_at_once = windows_at_once
        self.slices_at_once = slices_at_once
        self.pamr_iterations = pamr_iterations
        self.spatial_prior = spatial_prior or {}
        self.precision = precision
        self.region_step = region_step
        self.region_margin = region_margin
        self.region_island = region_island
        self.uncertainty = uncertainty
        self.fingerprint = fingerprint
        self._measured_precision: str | None = None
        self._fused: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()

    @classmethod
    def from_fingerprint(cls, fingerprint: Fingerprint, check_scans: bool = True, **settings: Any) -> SliceSegmenter:
        """Returns a segmenter that prepares scans as the fingerprint says.

        Args:
            fingerprint: of the network.
            check_scans: whether scans that reach `__call__` are compared with the fingerprint.
            **settings: other arguments of the class; they may also override values of the fingerprint.
        """
        decided: dict[str, Any] = {
            "orientation": fingerprint.orientation,
            "pixel_spacing": fingerprint.spacing[:2],
            "intensity": fingerprint.target.intensity,
            "slice_size": fingerprint.slice_size,
            "classes": fingerprint.network.out_channels,
            "pamr_iterations": fingerprint.pamr_iterations,
            "spatial_prior": fingerprint.spatial_prior,
            "fingerprint": fingerprint if check_scans else None,
        }
        return cls(**{**decided, **settings})

    def settings(self) -> dict[str, Any]:
        """Returns all settings that masks depend on beside scan, weights and postprocessing, by argument."""
        return {name: getattr(self, name) for name in signature(type(self)).parameters if name not in HARMLESS}

    def __call__(self, inputs: torch.Tensor, network: Network, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Segments a scan (1, C, X, Y, Z) with an affine: labels (1, 1, X, Y, Z), uint8, on the same grid and device.

        Raises:
            InputError: when there is a fingerprint and the scan cannot be segmented.
        """
        return on_grid_of(inputs, self.check_and_segment(inputs, network).labels)

    def check_and_segment(self, inputs: torch.Tensor, network: Network) -> Segmentation:
        """Segments a scan (1, C, X, Y, Z) with an affine.

        For callers that have neither checked the scan nor fused the network, such as servers and evaluators. The fused
        copy of the network is kept until a weight changes.

        Raises:
            InputError: when there is a fingerprint and the scan cannot be segmented.
        """
        volume = inputs[0]
        if self.fingerprint is not None:
            affine = affine_of(volume)
            name = _file_name(volume)
            try:
                doubts = check_scan(volume.numpy(force=True), affine, self.fingerprint)
            except InputError as error:
                raise InputError(f"{name}{error}") from error
            for doubt in doubts.all:
                logger.warning("%s%s", name, doubt)
        return self.segment(volume, self.fuse(network), inputs.device)

    def fuse(self, network: Network) -> Network:
        """Returns the fused copy of a network; the same one as before when no weight has changed."""
        if not isinstance(network, nn.Module):
            return network
        weights = [*network.parameters(), *network.buffers()]
        state = (network.training, [(each.data_ptr(), 0 if each.is_inference() else each._version) for each in weights])
        known = self._fused.get(network)
        if known is None or known[0] != state:
            known = self._fused[network] = (state, for_inference(network))
        return known[1]

    def segment(
        self,
        volume: torch.Tensor,
        network: Network,
        device: str | torch.device,
        probabilities: np.ndarray | None = None,
    ) -> Segmentation:
        """Segments one scan.

        Args:
            volume: intensities (C, X, Y, Z) in any storage order, with an affine (a MetaTensor).
            network: C(E(.)), in evaluation mode, on `device`.
            device: where the network runs.
            probabilities: what `probability_volume` yields, (classes, X, Y, Z); the class probabilities of all voxels
                are written into it. None: they are not kept.
        """
        affine = affine_of(volume)
        array = volume.numpy(force=True)
        precision = self._choose_precision(network, len(array), device)
        scan = self._as_scan_slices(array, affine)
        labels, label_slices = self._empty_volume(array.shape[1:], affine)
        doubts, doubt_slices = self._empty_volume(array.shape[1:] if self.uncertainty else (1, 1, 1), affine)
        sums = np.zeros((len(scan.slices), 4, self.classes))
        probability_slices = None if probabilities is None else as_slices(probabilities, affine, self.orientation)
        region = scan.whole
        if self.region_step is not None:

            def predict_slice(part: Region) -> np.ndarray | None:
                predicted = self._probabilities(scan, part, network, device, precision)
                return None if predicted is None else predicted.argmax(dim=1)[0].numpy(force=True)

            region = find_region(
                scan, self.pixel_spacing, predict_slice, self.region_step, self.region_margin, self.region_island
            )
        for part in _slabs(region, self.slices_at_once):
            found = self._probabilities(scan, part, network, device, precision)
            if found is None:
                continue
            largest, predicted = found.max(dim=1)
            entropy = torch.special.entr(found).sum(dim=1) / math.log(self.classes)  # share of the greatest
            sums[part.slices] = _statistics(found, predicted, largest, entropy)
            label_slices[part.slices] = scan.restore(predicted, part)
            if self.uncertainty:
                doubt_slices[part.slices] = scan.restore((entropy * UNCERTAINTY_SCALE).round(), part)
            if probability_slices is not None:
                store_slab(probability_slices[part.slices], found, partial(scan.restore, region=part))
        dropped = remove_implausible_components(labels, affine, self.spatial_prior, self.classes)
        pixels, confidence, entropies, mass = sums.sum(axis=0)
        uncertainty = torch.from_numpy(doubts) if self.uncertainty else None
        return Segmentation(
            torch.from_numpy(labels), pixels, confidence, entropies, scan.window, dropped, uncertainty, mass
        )

    def sample_slices(self, volume: torch.Tensor, count: int, device: str | torch.device) -> torch.Tensor:
        """Returns evenly spaced slices of a scan as the network sees them, (N, C, H, W), without those of air only.

        Args:
            volume: intensities (C, X, Y, Z) with an affine.
            count: of slices, at most.
            device: of the result.
        """
        affine = affine_of(volume)
        scan = self._as_scan_slices(volume.numpy(force=True), affine)
        places = np.unique(np.linspace(0, len(scan.slices) - 1, min(count, len(scan.slices))).round().astype(int))
        parts = [scan.sample(scan.whole._replace(slices=slice(place, place + 1)), device) for place in places.tolist()]
        slices = torch.cat(parts)
        return slices[(slices > AIR_THRESHOLD).flatten(1).any(dim=1)]

    def _choose_precision(self, network: Network, channels: int, device: str | torch.device) -> str:
        """Returns the precision to run in; `auto` is decided by a trial before the first scan."""
        if self.precision != "auto":
            return self.precision
        if self._measured_precision is None:
            windows = torch.zeros((self.windows_at_once, channels, *self.slice_size), device=device)
            self._measured_precision = faster_precision(network, windows)
        return self._measured_precision

    def _empty_volume(self, shape: Sequence[int], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns a uint8 volume of zeros, and its slices (D, H, W) as a view on the same memory."""
        volume = np.zeros(shape, dtype=np.uint8)
        return volume, as_slices(volume[None], affine, self.orientation)[:, 0]

    def _as_scan_slices(self, array: np.ndarray, affine: np.ndarray) -> ScanSlices:
        slices, steps = as_slices(array, affine, self.orientation), slice_steps(affine, self.orientation)
        rows, columns = (
            sample_positions(size, step, spacing)
            for size, step, spacing in zip(slices.shape[2:], steps[:2], self.pixel_spacing, strict=True)
        )
        window = intensity_window(torch.as_tensor(array), self.intensity)
        return ScanSlices(slices, (rows, columns), float(steps[2]), window)

    def _probabilities(
        self, scan: ScanSlices, region: Region, network: Network, device: str | torch.device, precision: str
    ) -> torch.Tensor | None:
        """Returns class probabilities (N, classes, rows, columns) of a region, averaged over windows; None for air."""
        windows = [
            windows_over(part, len(axis), size, max(1, int(size * (1 - self.overlap))))
            for part, axis, size in zip((region.rows, region.columns), scan.positions, self.slice_size, strict=True)
        ]
        slab = scan.sample(Region(region.slices, *windows), device)
        if not bool((slab > AIR_THRESHOLD).any()):
            return None

        def predict(windows: torch.Tensor) -> torch.Tensor:
            seen = (windows > AIR_THRESHOLD).flatten(1).any(dim=1)
            result = windows.new_zeros((len(windows), self.classes, *windows.shape[2:]))
            result[:, 0] = 1  # windows that show only air are background
            if bool(seen.any()):
                shown = windows[seen]
                result[seen] = refine_with_pamr(network(shown).float().softmax(dim=1), shown, self.pamr_iterations)
            return result

        with torch.autocast(slab.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            probabilities = sliding_window_inference(
                slab,
                self.slice_size,
                self.windows_at_once,
                predict,
                overlap=self.overlap,
                mode="gaussian",
                padding_mode="constant",
                cval=AIR,
            )
        assert isinstance(probabilities, torch.Tensor)
        rows, columns = (
            slice(part.start - window.start, part.stop - window.start)
            for part, window in zip((region.rows, region.columns), windows, strict=True)
        )
        return probabilities[:, :, rows, columns]


def on_grid_of(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns labels (X, Y, Z) as (1, 1, X, Y, Z), with the device and the metadata of a scan (1, C, X, Y, Z)."""
    result = labels[None, None].to(inputs.device)
    return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result


def _file_name(volume: torch.Tensor) -> str:
    """Returns the file that a scan was read from and a colon; an empty string where it is unknown."""
    name = volume.meta.get("filename_or_obj") if isinstance(volume, MetaTensor) else None
    return f"{name}: " if isinstance(name, str) else ""


def _slabs(region: Region, count: int) -> Iterator[Region]:
    """Yields slabs of the region, of at most `count` slices each."""
    for start in range(region.slices.start, region.slices.stop, count):
        yield region._replace(slices=slice(start, min(start + count, region.slices.stop)))


def _statistics(
    probabilities: torch.Tensor, predicted: torch.Tensor, largest: torch.Tensor, entropy: torch.Tensor
) -> np.ndarray:
    """Returns (N, 4, classes): pixels, sums of confidence and entropy over them, of probability over all."""
    classes = probabilities.shape[1]
    numbers = torch.arange(len(predicted), device=predicted.device)[:, None, None]
    flat, bins = (predicted + numbers * classes).flatten(), len(predicted) * classes
    sums = [torch.bincount(flat, minlength=bins).double()]
    sums += [torch.bincount(flat, value.flatten().double(), bins) for value in (largest, entropy)]
    found: np.ndarray = torch.stack(sums).reshape(3, -1, classes).movedim(1, 0).numpy(force=True)
    mass = probabilities.double().sum(dim=(2, 3)).numpy(force=True)
    return np.concatenate([found, mass[:, None]], axis=1)
