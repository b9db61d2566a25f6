"""Training from MONAI Label: its studies and a target folder as training data."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sifa.data.dataset_json import check_labels
from sifa.data.unpaired_slices import UnpairedSlices
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.find_scans import DATASTORE, find_scans
from sifa.io.formats import suffix_of
from sifa.io.scan_reader import load_image
from sifa.transforms.dictionary import MapLabelsd
from sifa.utils.errors import InputError, first_line, innermost

logger = logging.getLogger(__name__)

HU_PERCENTILE, HU_BELOW = 5.0, -50.0  # at least this percentage of a CT is air, lung or fat, below this HU

Item = Mapping[str, str]
Preprocessing = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def studies_slices(
    data: Sequence[Item],
    held_back: Sequence[Item],
    target_dir: str,
    fingerprint: Fingerprint,
    preprocessing: Preprocessing,
    target_preprocessing: Preprocessing,
    augmentation: Preprocessing | None = None,
) -> UnpairedSlices:
    """Checks the scans that MONAI Label passes for training and cuts them into slices.

    A label that came with the names of its segments, as from 3D Slicer, numbers them in the network's order; any other
    label holds the values that masks have.

    Args:
        data: the studies that have a final label, `{"image": path, "label": path}`.
        held_back: the studies that MONAI Label holds back for validation; they are used for training as well.
        target_dir: folder of unlabeled target scans: NIfTI, NRRD or MetaImage files.
        fingerprint: fingerprint of the weights in use.
        preprocessing: preprocessing of labeled source volumes; it leaves the values of labels as they are.
        target_preprocessing: preprocessing of target volumes.
        augmentation: random transforms of slices.

    Returns:
        The slices of both domains.

    Raises:
        InputError: when there is no labeled source scan or no target scan, when a label does not match its scan or
            the network, or when a target scan is of the wrong modality.
    """
    source, target = fingerprint.source.modality, fingerprint.target.modality
    items = [item for item in (*data, *held_back) if not _looks_like_target(item["image"], fingerprint)]
    left_out = len(data) + len(held_back) - len(items)
    if left_out:
        logger.warning("left out: %d labeled %s (in HU); training uses labels of %s", left_out, target, source)
    if not items:
        raise InputError(f"no {source} among the studies has a final label: label at least one and submit it.")
    known = list(fingerprint.structure_names.values())
    numbered = {item["label"] for item in items if _are_segments_numbered(Path(item["label"]), known)}
    classes = {value: index for index, value in fingerprint.mask_values.items()}
    check_labels([item for item in items if item["label"] in numbered], fingerprint.labels)
    check_labels([item for item in items if item["label"] not in numbered], classes)
    targets = _find_targets(target_dir, target)
    for image in targets:
        if _intensities_identify_target(fingerprint) and not _looks_like_target(image, fingerprint):
            raise InputError(f"{image}: it is not {target} in HU: keep only unlabeled {target} scans in target_dir.")
    logger.info("training on %d labeled %s and %d unlabeled %s scans", len(items), source, len(targets), target)
    unlabeled = [{"image": image} for image in targets]
    to_classes = MapLabelsd("label", classes)

    def prepare(item: Mapping[str, Any]) -> Mapping[Any, Any]:
        prepared: dict[Any, Any] = dict(preprocessing(item))
        return prepared if item["label"] in numbered else to_classes(prepared)

    return UnpairedSlices(items, prepare, unlabeled, target_preprocessing, augmentation)


def _find_targets(target_dir: str, modality: str) -> list[str]:
    if not target_dir:
        raise InputError(
            f"target_dir is empty: set it to the folder of unlabeled {modality} scans to adapt to, in the request or "
            "in the client's training options, or start the server with --target."
        )
    if not Path(target_dir).is_dir():
        raise InputError(f"target_dir: {target_dir}: there is no such folder on the server.")
    try:
        found = find_scans(target_dir, output_dir=Path(target_dir) / ".none")
    except InputError:
        found = []
    scans = [str(item["image"]) for item in found if "skipped" not in item and suffix_of(item["image"])]
    if not scans:
        raise InputError(f"target_dir: {target_dir}: it holds no scan file: put unlabeled {modality} scans into it.")
    return scans


def _intensities_identify_target(fingerprint: Fingerprint) -> bool:
    """Returns whether intensities identify the domain of a scan: the target is in HU and the source is not."""
    return fingerprint.target.intensity["mode"] == "window" and fingerprint.source.intensity["mode"] != "window"


def _looks_like_target(image: str, fingerprint: Fingerprint) -> bool:
    if not _intensities_identify_target(fingerprint):
        return False
    try:
        volume = np.asarray(load_image(image))
    except Exception as error:
        raise InputError(f"{image}: it cannot be read ({first_line(innermost(error))}): replace it.") from error
    return float(np.percentile(volume, HU_PERCENTILE)) < HU_BELOW


def _are_segments_numbered(label: Path, known: Sequence[str]) -> bool:
    """Returns whether a label numbers its segments from 1; refuses one whose numbers mean other structures.

    3D Slicer numbers the existing segments from 1 and sends their names, which the datastore keeps; MONAI Label trains
    on the numbers.
    """
    datastore = label.parents[2] / DATASTORE
    if not datastore.is_file():
        return False
    objects = json.loads(datastore.read_text(encoding="utf-8")).get("objects", {}).values()
    infos = [study.get("labels", {}).get(label.parent.name, {}).get("info", {}) for study in objects]
    segments = next((info.get("label_info") for info in infos if info.get("name") == label.name), None)
    names = [str(segment.get("name")) for segment in segments or []]
    if [name.lower() for name in names] != [name.lower() for name in known[: len(names)]]:
        raise InputError(
            f"{label}: its segments are {', '.join(names)}, so its values do not mean the network's structures: submit "
            f"it with the segments {', '.join(known)}, in this order, empty where a structure is absent."
        )
    return bool(names)
