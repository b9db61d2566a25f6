"""Training from MONAI Label: what of its studies and of a target folder is trained on, and where the weights go."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from sifa.data.dataset_json import check_labels
from sifa.data.unpaired_slices import UnpairedSlices
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.find_scans import DATASTORE, NIFTI_SUFFIXES, find_scans
from sifa.io.nifti_reader import load_image
from sifa.training.model_files import save_state
from sifa.utils.distributed import is_main_process
from sifa.utils.errors import InputError, first_line, innermost

logger = logging.getLogger(__name__)

HU_PERCENTILE, HU_BELOW = 5.0, -50.0  # of a CT at least this share in percent is air, lung or fat: below this HU

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
    """Checks what MONAI Label hands over for training, and cuts it into slices.

    Args:
        data: the studies that have a final label, `{"image": path, "label": path}`.
        held_back: those that MONAI Label holds back for validation; they are trained on as well.
        target_dir: folder of unlabeled target scans, NIfTI files.
        fingerprint: of the weights in use.
        preprocessing: of labeled source volumes.
        target_preprocessing: of target volumes.
        augmentation: random transforms of slices.

    Returns:
        The slices of both domains.

    Raises:
        InputError: when there is no labeled source scan or no target scan, a label does not fit its scan or the
            network, or a target scan is of the wrong modality.
    """
    source, target = fingerprint.source.modality, fingerprint.target.modality
    items = [item for item in (*data, *held_back) if not _is_told_as_target(item["image"], fingerprint)]
    left_out = len(data) + len(held_back) - len(items)
    if left_out:
        logger.warning("left out: %d labeled %s (in HU); training takes labels of %s", left_out, target, source)
    if not items:
        raise InputError(f"no {source} among the studies has a final label: label at least one and submit it.")
    for item in items:
        _check_segments(Path(item["label"]), list(fingerprint.structure_names.values()))
    check_labels([item for item in items if item["label"].endswith(NIFTI_SUFFIXES)], fingerprint.labels)
    targets = _find_targets(target_dir, target)
    for image in targets:
        if _tells_modalities(fingerprint) and not _is_told_as_target(image, fingerprint):
            raise InputError(f"{image}: it is not {target} in HU: target_dir takes unlabeled {target} scans only.")
    logger.info("training on %d labeled %s and %d unlabeled %s scans", len(items), source, len(targets), target)
    unlabeled = [{"image": image} for image in targets]
    return UnpairedSlices(items, preprocessing, unlabeled, target_preprocessing, augmentation)


def _find_targets(target_dir: str, modality: str) -> list[str]:
    if not target_dir:
        raise InputError(
            f"target_dir is empty: give it the folder of unlabeled {modality} scans to adapt to, in the request or in "
            "the client's training options, or start the server with --target."
        )
    if not Path(target_dir).is_dir():
        raise InputError(f"target_dir: {target_dir}: there is no such folder on the server.")
    try:
        found = find_scans(target_dir, output_dir=Path(target_dir) / ".none")
    except InputError:
        found = []
    scans = [str(item["image"]) for item in found if str(item["image"]).lower().endswith(NIFTI_SUFFIXES)]
    if not scans:
        raise InputError(f"target_dir: {target_dir}: it holds no NIfTI file: put unlabeled {modality} scans into it.")
    return scans


def _tells_modalities(fingerprint: Fingerprint) -> bool:
    """Tells whether intensities alone say which domain a scan is of: the target is in HU and the source is not."""
    return fingerprint.target.intensity["mode"] == "window" and fingerprint.source.intensity["mode"] != "window"


def _is_told_as_target(image: str, fingerprint: Fingerprint) -> bool:
    if not _tells_modalities(fingerprint):
        return False
    try:
        volume = np.asarray(load_image(image))
    except Exception as error:
        raise InputError(f"{image}: it cannot be read ({first_line(innermost(error))}): replace it.") from error
    return float(np.percentile(volume, HU_PERCENTILE)) < HU_BELOW


def _check_segments(label: Path, known: Sequence[str]) -> None:
    """Refuses a label whose values stand for other structures than the network's.

    3D Slicer numbers the segments that are there from 1 on and sends their names along, which the datastore keeps;
    MONAI Label trains on the numbers.
    """
    datastore = label.parents[2] / DATASTORE
    if not datastore.is_file():
        return
    objects = json.loads(datastore.read_text(encoding="utf-8")).get("objects", {}).values()
    infos = [study.get("labels", {}).get(label.parent.name, {}).get("info", {}) for study in objects]
    segments = next((info.get("label_info") for info in infos if info.get("name") == label.name), None)
    names = [str(segment.get("name")) for segment in segments or []]
    if [name.lower() for name in names] != [name.lower() for name in known[: len(names)]]:
        raise InputError(
            f"{label}: its segments are {', '.join(names)}, so its values do not mean what the network learns: submit "
            f"it with the segments {', '.join(known)}, in this order, empty where there is nothing."
        )


class WeightsInstaller:
    """Puts the segmenter's weights in use when training is complete; what was in use is kept.

    Args:
        segmenter: C(E(.)).
        model_dir: folder of the `model.pt` and `fingerprint.json` in use; only the first is replaced.
        earlier_dir: a folder named by the time is made in it for the pair that was in use.
        enabled: False does nothing.
    """

    def __init__(self, segmenter: nn.Module, model_dir: str | Path, earlier_dir: str | Path, enabled: bool) -> None:
        self.segmenter = segmenter
        self.model_dir = Path(model_dir)
        self.earlier_dir = Path(earlier_dir)
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Waits for the end of `engine`'s run."""
        if self.enabled and is_main_process():
            engine.add_event_handler(Events.COMPLETED, self.install)

    def install(self, engine: Engine) -> None:
        """Keeps the pair in use and replaces its weights.

        Raises:
            InputError: when training diverged; the weights in use stay.
        """
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self.segmenter.state_dict().values()):
            raise InputError("training diverged (its weights are not finite), so the weights in use stay: try again.")
        earlier = self.earlier_dir / datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
        earlier.mkdir(parents=True)
        for name in ("model.pt", "fingerprint.json"):
            shutil.copy2(self.model_dir / name, earlier / name)
        save_state(self.segmenter, self.model_dir / "model.pt")
        logger.info("the new weights are in use; those before are kept in %s", earlier)
