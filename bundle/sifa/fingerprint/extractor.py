"""Computes the fingerprint of a run from its training images."""

from __future__ import annotations

import itertools
import logging
import math
import platform
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import monai
import numpy as np
import torch
from tqdm import tqdm

import sifa
from sifa.data.dataset_json import DatasetDescription
from sifa.fingerprint.fingerprint import Domain, Fingerprint, NetworkSize, TrainingSummary
from sifa.fingerprint.grid_warnings import coarse_plane_warnings, main_view, resolution_warnings, tilt_warnings
from sifa.fingerprint.histogram_matching import check_tissue, matching_curve
from sifa.fingerprint.in_plane_field import choose_slice_field
from sifa.fingerprint.label_statistics import measure_labels
from sifa.fingerprint.modality import canonical_modality, rule_name, shares_hu_window
from sifa.fingerprint.statistics import (
    AIR_SHARE,
    BRIGHT,
    DomainStatistics,
    TrainingStatistics,
    Triple,
    body_extent,
    median_triple,
)
from sifa.fingerprint.unit_check import UnitCheck
from sifa.io.grids import require_affine
from sifa.io.scan_reader import load_image
from sifa.transforms.hounsfield import not_hu_reason
from sifa.transforms.orientation import ACQUIRED, AXCODES, PLANES, view_direction
from sifa.transforms.slice_continuity import alternation_reason
from sifa.transforms.slices import as_slices, slice_steps
from sifa.utils.distributed import is_main_process
from sifa.utils.errors import InputError, find_input_error

logger = logging.getLogger(__name__)

TYPICAL = (0.5, 99.5)  # percentiles that are noted where a rule has fixed limits
LEFT_OUT = 0.01  # share of the labeled voxels that slices may leave out without a warning


def compute_fingerprint(
    dataset: DatasetDescription,
    network: Mapping[str, Any],
    slice_size: Sequence[int],
    intensity: Mapping[str, Mapping[str, Any]],
    pixel_spacing: float | None = None,
    slice_spacing: float = 0.0,
    pamr_iterations: int = 0,
    spatial_prior: bool = False,
    match_intensity: Mapping[str, Sequence[float]] | None = None,
    source_training: Sequence[Mapping[str, str]] | None = None,
    check_units: bool = True,
    match_in_plane: bool = False,
) -> Fingerprint:
    """Computes the fingerprint of a run from its training images.

    Args:
        dataset: the data set.
        network: the segmenter's `in_channels` and `width`.
        slice_size: rows and columns of the training slices in pixels, multiples of 8.
        intensity: the rule of each modality, and `default` for all others: `mode` (`window`: one window for all scans;
            `percentiles`: each volume's own percentiles), `percentiles` (lower, upper, in percent) and, for `window`,
            `above`: only voxels above this value are counted (in HU, this excludes air and lung). A window may have
            fixed limits, `lower` and `upper`, in place of percentiles.
        pixel_spacing: size of a pixel in mm; None: set so that the median field of view fills a slice.
        slice_spacing: distance between slices in mm; 0 keeps each scan's own.
        pamr_iterations: steps of `sifa.postprocessing.pamr` after the network.
        spatial_prior: whether connected components that do not fit the other structures are removed from masks; see
            `sifa.postprocessing.spatial_prior`.
        match_intensity: range of tissue, in [-1, 1], of `source` and `target`: source intensities are mapped along a
            curve to the target's, see `sifa.fingerprint.histogram_matching`; None: they are not.
        source_training: replaces the data set's list (MONAI Label passes the labeled studies).
        check_units: whether scans whose values contradict their modality are refused.
        match_in_plane: whether slices are as large as the smaller domain shows; see
            `sifa.fingerprint.in_plane_field`.

    Raises:
        InputError: when a slice size is not a multiple of 8, another setting is out of range, or an image cannot be
            read, is not 3-D, or has no contrast.
    """
    if len(slice_size) != 2 or any(size <= 0 or size % 8 for size in slice_size):
        raise InputError(f"slice_size {list(slice_size)} must be two multiples of 8: E halves the resolution 3 times.")
    if pixel_spacing is not None and pixel_spacing <= 0:
        raise InputError(f"pixel_spacing is {pixel_spacing}: give a size in mm, or null to fit the field of view.")
    if slice_spacing < 0:
        raise InputError(f"slice_spacing is {slice_spacing}: give a distance in mm, or 0 to keep each scan's own.")
    if type(pamr_iterations) is not int or pamr_iterations < 0:
        raise InputError(f"pamr_iterations is {pamr_iterations!r}: give the number of steps, 0 or more.")
    if match_intensity:
        check_tissue(match_intensity)
    if not dataset.slice_plane:
        raise InputError(
            f"{dataset.path}: 'slice_plane' is missing: write one of {', '.join(PLANES)} there, or give "
            "--slice_plane; `run planning` chooses one."
        )
    source_images = [item["image"] for item in (source_training or dataset.source_training)]
    target_images = [item["image"] for item in dataset.target_training]
    orientation = AXCODES.get(dataset.slice_plane, ACQUIRED)
    modalities = {"source": dataset.source_modality, "target": dataset.target_modality}
    rules, units = {}, {}
    for domain, modality in modalities.items():
        name = rule_name(modality, intensity, f"{dataset.path}: {domain}.modality")
        _check_rule(name, intensity[name])
        rules[domain] = intensity[name]
        in_hu = shares_hu_window(modality, rules[domain])
        units[domain] = UnitCheck(domain, modality, in_hu, name) if check_units else None
    source = _measure(source_images, orientation, rules["source"], "source", units["source"])
    target = (
        _measure(target_images, orientation, rules["target"], "target", units["target"])
        if target_images
        else _reuse_source(source, dataset)
    )
    field = choose_slice_field(
        source["fields_of_view"], target["fields_of_view"], slice_size, pixel_spacing, match_in_plane
    )
    pixel_spacing = field.pixel_spacing
    if match_intensity and target_images:
        images = {"source": source_images, "target": target_images}
        windows = {"source": source["intensity"], "target": target["intensity"]}
        source["intensity"]["curve"] = matching_curve(images, windows, match_intensity)
    measured = measure_labels(
        source_training or dataset.source_training,
        dataset.labels,
        dataset.source_label_map,
        orientation,
        [size * pixel_spacing for size in slice_size],
        around_labels=field.is_matched,
    )
    if measured.left_out > LEFT_OUT and is_main_process():
        logger.warning(
            "slices of %d x %d pixels of %g mm (rows x columns) leave out %.1f %% of the source's labeled voxels: "
            "give a larger slice_size or pixel_spacing.",
            *slice_size,
            pixel_spacing,
            100 * measured.left_out,
        )
    if spatial_prior and not measured.spatial_prior and is_main_process():
        logger.warning("too few training subjects show each structure as one component: masks keep all components.")
    _require_structures(measured.volumes, dataset)
    if is_main_process():
        _check_validation(dataset, rules["target"], orientation)
        _tell_matched(field.is_matched, source, target, [size * pixel_spacing for size in slice_size])
        scans = source["paths"] + target["paths"], source["spacings"] + target["spacings"]
        warnings = resolution_warnings(pixel_spacing, scans[1])
        if orientation == ACQUIRED:
            warnings += tilt_warnings(scans[0], source["views"] + target["views"])
        else:
            warnings += coarse_plane_warnings(*scans, dataset.slice_plane)
        for warning in warnings:
            logger.warning("%s", warning)
    return Fingerprint(
        name=dataset.name,
        labels=dataset.labels,
        label_values=dataset.label_values,
        slice_plane=dataset.slice_plane,
        orientation=orientation,
        spacing=(float(pixel_spacing), float(pixel_spacing), float(slice_spacing)),
        slice_size=(int(slice_size[0]), int(slice_size[1])),
        matched_in_plane=field.is_matched,
        source_size=field.source_size,
        pamr_iterations=pamr_iterations,
        structures=measured.volumes,
        spatial_prior=measured.spatial_prior if spatial_prior else {},
        source=_summarize(canonical_modality(dataset.source_modality), source),
        target=_summarize(canonical_modality(dataset.target_modality), target),
        network=NetworkSize(network["in_channels"], dataset.out_channels, float(network["width"])),
        versions={
            "sifa": sifa.__version__,
            "monai": monai.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        terminology=dataset.terminology,
        statistics=TrainingStatistics(source["statistics"], target["statistics"], measured.extent, measured.boxes),
        slice_view=_common_view(source["views"] + target["views"]) if orientation == ACQUIRED else None,
    )


def _check_rule(name: str, rule: Mapping[str, Any]) -> None:
    """Refuses an intensity rule with neither percentiles nor fixed limits, with both, or with limits in no order."""
    given = {"percentiles", "lower", "upper"} & set(rule)
    limits = [rule[name] for name in ("lower", "upper") if name in given]
    are_fixed = rule["mode"] == "window" and given == {"lower", "upper"} and _are_increasing(limits)
    if given != {"percentiles"} and not are_fixed:
        raise InputError(
            f"intensity#{name} is {dict(rule)}: give either percentiles or, where mode is window, two numbers lower < "
            "upper."
        )


def _are_increasing(limits: Sequence[Any]) -> bool:
    are_numbers = all(type(limit) in (int, float) and math.isfinite(limit) for limit in limits)
    return are_numbers and all(lower < upper for lower, upper in itertools.pairwise(limits))


def _require_structures(shown: Collection[str], dataset: DatasetDescription) -> None:
    """Warns of structures that no training subject shows; refuses labels that show none at all."""
    absent = [name for value, name in dataset.labels.items() if value != 0 and name not in shown]
    if len(absent) == len(dataset.labels) - 1:
        raise InputError(f"{dataset.path}: the labels of source.training hold only background: list labeled images.")
    if absent and is_main_process():
        logger.warning(
            "no label of source.training shows %s: the network cannot learn it, and masks will lack it.",
            " or ".join(absent),
        )


def _check_validation(dataset: DatasetDescription, rule: Mapping[str, Any], orientation: str) -> None:
    """Warns of scans to measure on whose units are not those of the target."""
    if not shares_hu_window(dataset.target_modality, rule):
        return
    for item in dataset.target_validation:
        reason = not_hu_reason(_load(item["image"], orientation).volume)
        if reason:
            logger.warning("%s: %s, so its Dice is not meaningful: convert it to HU.", item["image"], reason)


def _tell_matched(
    is_matched: bool, source: Mapping[str, Any], target: Mapping[str, Any], extent: Sequence[float]
) -> None:
    """Says where slices are cut to the smaller field of view of the two domains."""
    if is_matched:
        shown = [
            " x ".join(f"{size:.0f}" for size in median_triple(part["fields_of_view"])[:2]) for part in (source, target)
        ]
        logger.info(
            "source slices show %s mm and target slices %s mm (rows x columns): both are cut to %.0f x %.0f mm",
            *shown,
            *extent,
        )


def _common_view(views: Sequence[np.ndarray]) -> tuple[float, float, float]:
    x, y, z = (round(float(part), 4) for part in main_view(views))
    return x, y, z


def _reuse_source(source: dict[str, Any], dataset: DatasetDescription) -> dict[str, Any]:
    if canonical_modality(dataset.source_modality) != canonical_modality(dataset.target_modality):
        raise InputError(
            f"{dataset.path}: there are no target images to measure the {dataset.target_modality} intensities in: "
            "list some in target.training."
        )
    return source


def _measure(
    images: Sequence[str], orientation: str, rule: Mapping[str, Any], domain: str, units: UnitCheck | None
) -> dict[str, Any]:
    """Measures the volumes of one domain: intensity rule, percentiles, spacings and fields of view in mm, views."""
    spacings, fields, windows, views = [], [], [], []
    bodies: list[Triple] = []
    bright: list[float] = []
    voxels = np.zeros(3, dtype=np.int64)
    for path in tqdm(images, desc=f"fingerprint, {domain}", leave=False, disable=None):
        volume, spacing, view = _load(path, orientation)
        if units is not None:
            units.add(path, volume)
        if is_main_process() and (reason := alternation_reason(volume)):
            logger.warning("%s: %s.", path, reason)
        spacings.append(spacing)
        views.append(view)
        fields.append([float(size * step) for size, step in zip(volume.shape, spacing, strict=True)])
        values = volume[volume > rule["above"]] if rule.get("above") is not None else volume
        if values.size == 0:
            raise InputError(f"{path}: no voxel lies above {rule['above']}: it is not in the units of its modality.")
        windows.append(np.percentile(values, rule.get("percentiles", TYPICAL)))
        lowest, highest = windows[-1]
        air = lowest + AIR_SHARE * (highest - lowest) if rule.get("above") is None else rule["above"]
        bodies.append(body_extent(volume, spacing, air))
        bright.append(float(np.mean(values > BRIGHT)))
        voxels += volume.shape
        if windows[-1][1] <= windows[-1][0]:
            raise InputError(f"{path}: it has no contrast (its percentiles are equal): remove it.")
    if units is not None:
        units.finish()
    found = [round(float(value), 3) for value in np.median(windows, axis=0)]
    lower, upper = _limits(rule, found)
    return {
        "intensity": {"mode": rule["mode"], "lower": lower, "upper": upper},
        "percentiles": found,
        "spacings": spacings,
        "fields_of_view": fields,
        "statistics": DomainStatistics(
            (int(voxels[0]), int(voxels[1]), int(voxels[2])), median_triple(bodies), round(float(np.median(bright)), 4)
        ),
        "paths": list(images),
        "views": views,
    }


def _limits(rule: Mapping[str, Any], found: Sequence[float]) -> tuple[float, float]:
    """Returns the limits that a fingerprint holds: percents, fixed intensities, or the intensities that were found."""
    if rule["mode"] == "percentiles":
        lower, upper = (round(float(percent), 3) for percent in rule["percentiles"])
    elif "percentiles" in rule:
        lower, upper = found
    else:
        lower, upper = float(rule["lower"]), float(rule["upper"])
    return lower, upper


class _Scan(NamedTuple):
    """A scan turned so that rows, columns and slices are its axes."""

    volume: np.ndarray
    spacing: list[float]  # mm
    view: np.ndarray  # (3,), the direction from a slice toward the viewer


def _load(path: str, orientation: str) -> _Scan:
    """Returns a scan turned to `orientation`."""
    try:
        image = load_image(path)
    except Exception as error:
        found = find_input_error(error)
        if found is not None:
            raise found from error
        raise InputError(f"{path}: it cannot be read as an image: replace it or remove it.") from error
    volume, affine = np.asarray(image), np.asarray(image.affine)
    if volume.ndim != 3:
        raise InputError(f"{path}: it has {volume.ndim} dimensions, training takes 3-D volumes: convert or remove it.")
    if not np.isfinite(volume).all():
        raise InputError(f"{path}: it holds NaN or infinite values: repair it or remove it.")
    require_affine(affine, path)
    turned = as_slices(volume[None], affine, orientation)[:, 0].transpose(1, 2, 0)
    steps = [float(step) for step in slice_steps(affine, orientation)]
    return _Scan(turned, steps, view_direction(affine, orientation))


def _summarize(modality: str, measured: Mapping[str, Any]) -> Domain:
    lower, upper = measured["percentiles"]
    summary = TrainingSummary(
        volumes=len(measured["spacings"]),
        median_percentiles=(lower, upper),
        median_spacing=median_triple(measured["spacings"]),
        median_field_of_view=median_triple(measured["fields_of_view"]),
    )
    return Domain(modality, measured["intensity"], summary)
