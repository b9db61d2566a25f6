"""Computes the fingerprint of a run from its training images."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import monai
import nibabel as nib
import numpy as np
import torch
from tqdm import tqdm

import sifa
from sifa.data.dataset_json import DatasetDescription
from sifa.fingerprint.fingerprint import FORMAT
from sifa.fingerprint.histogram_matching import check_tissue, matching_curve
from sifa.fingerprint.label_statistics import measure_labels
from sifa.io.nifti_reader import load_image
from sifa.transforms.orientation import AXCODES
from sifa.utils.distributed import is_main_process
from sifa.utils.errors import InputError

logger = logging.getLogger(__name__)

LEFT_OUT = 0.01  # share of what the labels mark that slices may leave out without a word


def compute_fingerprint(
    dataset: DatasetDescription,
    network: Mapping[str, Any],
    slice_size: Sequence[int],
    intensity: Mapping[str, Mapping[str, Any]],
    pixel_spacing: float | None = None,
    slice_spacing: float = 0.0,
    refinement_iterations: int = 0,
    arrangement: bool = False,
    match_intensity: Mapping[str, Sequence[float]] | None = None,
    source_training: Sequence[Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """Computes the fingerprint of a run from its training images.

    Args:
        dataset: the data set.
        network: arguments of the segmenter beside the number of classes (`in_channels`, `width`).
        slice_size: rows and columns of the training slices in pixels, multiples of 8.
        intensity: by modality, with `default` for all others: `mode` (`window`: one window for all scans;
            `percentiles`: each volume by its own percentiles), `percentiles` (lower, upper, in percent) and, for
            `window`, `above`: only voxels above this value count (HU: keeps air and lung from setting the window).
        pixel_spacing: size of a pixel in mm; None: such that the median field of view fills a slice.
        slice_spacing: distance of slices in mm; 0 keeps each scan's own.
        refinement_iterations: steps of `sifa.postprocessing.pamr` behind the network.
        arrangement: whether of a structure that is one piece in training masks show what fits the others alone; see
            `sifa.postprocessing.spatial_prior`.
        match_intensity: range of tissue, in [-1, 1], of `source` and `target`: source intensities follow a curve to the
            target's, see `sifa.fingerprint.histogram_matching`; None: they do not.
        source_training: replaces the data set's list (MONAI Label hands in the studies that carry a label).

    Returns:
        The fingerprint, of plain Python types.

    Raises:
        InputError: when a slice size is not a multiple of 8, another setting is out of range, or an image cannot be
            read, is not 3-D, or has no contrast.
    """
    if len(slice_size) != 2 or any(size <= 0 or size % 8 for size in slice_size):
        raise InputError(f"slice_size {list(slice_size)} must be two multiples of 8: E halves the resolution 3 times.")
    if pixel_spacing is not None and pixel_spacing <= 0:
        raise InputError(f"pixel_spacing is {pixel_spacing}: give a size in mm, or null to fit the field of view.")
    if match_intensity:
        check_tissue(match_intensity)
    source_images = [item["image"] for item in (source_training or dataset.source_training)]
    target_images = [item["image"] for item in dataset.target_training]
    axcodes = AXCODES[dataset.slice_plane]
    source = _measure(source_images, axcodes, _rule(intensity, dataset.source_modality), "source")
    target = (
        _measure(target_images, axcodes, _rule(intensity, dataset.target_modality), "target")
        if target_images
        else _same_modality(source, dataset)
    )
    if pixel_spacing is None:
        fields = source["fields_of_view"] + target["fields_of_view"]
        in_plane = np.median([extent[:2] for extent in fields], axis=0)
        pixel_spacing = round(float(np.max(in_plane / np.asarray(slice_size))), 3)
    if match_intensity and target_images:
        images = {"source": source_images, "target": target_images}
        rules = {"source": source["intensity"], "target": target["intensity"]}
        source["intensity"]["curve"] = matching_curve(images, rules, match_intensity)
    marked = measure_labels(
        source_training or dataset.source_training,
        dataset.labels,
        axcodes,
        [size * pixel_spacing for size in slice_size],
    )
    if marked.left_out > LEFT_OUT and is_main_process():
        logger.warning(
            "slices of %d x %d pixels of %g mm (rows x columns) leave out %.1f %% of what the source's labels mark: "
            "give a larger slice_size or pixel_spacing.",
            *slice_size,
            pixel_spacing,
            100 * marked.left_out,
        )
    if arrangement and not marked.arrangement and is_main_process():
        logger.warning("too few training subjects show structures in one piece each: masks keep all pieces.")
    return {
        "format": FORMAT,
        "name": dataset.name,
        "labels": {str(value): name for value, name in dataset.labels.items()},
        "slice_plane": dataset.slice_plane,
        "orientation": axcodes,
        "spacing": [pixel_spacing, pixel_spacing, slice_spacing],
        "slice_size": [int(size) for size in slice_size],
        "refinement_iterations": refinement_iterations,
        "structures": marked.volumes,
        "arrangement": marked.arrangement if arrangement else {},
        "source": _summary(dataset.source_modality, source),
        "target": _summary(dataset.target_modality, target),
        "network": {**network, "out_channels": dataset.out_channels},
        "versions": {
            "sifa": sifa.__version__,
            "monai": monai.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _rule(intensity: Mapping[str, Mapping[str, Any]], modality: str) -> Mapping[str, Any]:
    return intensity.get(modality, intensity["default"])


def _same_modality(source: dict[str, Any], dataset: DatasetDescription) -> dict[str, Any]:
    if dataset.source_modality != dataset.target_modality:
        raise InputError(
            f"{dataset.path}: there are no target images to learn the {dataset.target_modality} intensities from: "
            "list some in target.training."
        )
    return source


def _measure(images: Sequence[str], axcodes: str, rule: Mapping[str, Any], domain: str) -> dict[str, Any]:
    """Measures the volumes of one domain: intensity rule with its figures, spacings and fields of view in mm."""
    lower, upper = rule["percentiles"]
    spacings, fields, windows = [], [], []
    for path in tqdm(images, desc=f"fingerprint, {domain}", leave=False, disable=None):
        volume, spacing = _load(path, axcodes)
        spacings.append(spacing)
        fields.append([float(size * step) for size, step in zip(volume.shape, spacing, strict=True)])
        values = volume[volume > rule["above"]] if rule.get("above") is not None else volume
        if values.size == 0:
            raise InputError(f"{path}: no voxel lies above {rule['above']}: it is not in the units of its modality.")
        windows.append(np.percentile(values, (lower, upper)))
        if windows[-1][1] <= windows[-1][0]:
            raise InputError(f"{path}: it has no contrast (its percentiles are equal): take it out.")
    found = np.median(windows, axis=0)
    bounds = found if rule["mode"] == "window" else (lower, upper)
    return {
        "intensity": {"mode": rule["mode"], "lower": round(float(bounds[0]), 3), "upper": round(float(bounds[1]), 3)},
        "percentiles": [round(float(value), 3) for value in found],
        "spacings": spacings,
        "fields_of_view": fields,
    }


def _load(path: str, axcodes: str) -> tuple[np.ndarray, list[float]]:
    """Returns a volume turned to `axcodes` and its spacing in mm along these axes."""
    try:
        image = load_image(path)
    except Exception as error:
        raise InputError(f"{path}: it cannot be read as an image: replace it or take it out.") from error
    volume, affine = np.asarray(image), np.asarray(image.affine)
    if volume.ndim != 3:
        raise InputError(f"{path}: it has {volume.ndim} dimensions, training takes 3-D volumes: convert or remove it.")
    if not np.isfinite(volume).all():
        raise InputError(f"{path}: it holds NaN or infinite values: repair it or take it out.")
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axcodes)))
    turned = nib.orientations.apply_orientation(volume, turn)
    affine = affine @ nib.orientations.inv_ornt_aff(turn, volume.shape)
    return turned, [float(step) for step in nib.affines.voxel_sizes(affine)]


def _summary(modality: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    def median(rows: Sequence[Sequence[float]]) -> list[float]:
        return [round(float(value), 3) for value in np.median(rows, axis=0)]

    return {
        "modality": modality,
        "intensity": measured["intensity"],
        "training": {
            "volumes": len(measured["spacings"]),
            "median_percentiles": measured["percentiles"],
            "median_spacing": median(measured["spacings"]),
            "median_field_of_view": median(measured["fields_of_view"]),
        },
    }
