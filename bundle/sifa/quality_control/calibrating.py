"""Calibrates predicted Dice on held-out source scans that are made to look like target scans."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from torch import nn
from tqdm import tqdm

from sifa.data.slice_cache import Preprocessing
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.networks.segmenter import Segmenter
from sifa.quality_control.calibration import Calibration, write_calibration
from sifa.quality_control.held_out import prepare_held_out
from sifa.quality_control.imitation import Imitation, kinds_of_imitation, load_target_generator
from sifa.quality_control.monotone_fit import FOLDS, MonotoneFit, fit
from sifa.quality_control.prepared_scan import along_axes, as_scan
from sifa.quality_control.resemblance import compare, pool_latents, range_of
from sifa.quality_control.signal_meter import FULL, SIGNALS, SLICES, SignalMeter
from sifa.quality_control.signals import count_overlap, dice_of
from sifa.quality_control.source_guide import Loss, fine_tune_on_source
from sifa.quality_control.target_examples import sample_target
from sifa.quality_control.views import ChangedImages
from sifa.quality_control.weaker_networks import weaker_networks
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file

logger = logging.getLogger(__name__)

LEAST_MASKS = 30  # that are not empty, to fit to


class Row(NamedTuple):
    """A measured mask of a structure, which is not empty."""

    imitation: int  # number of the imitated scan
    signals: Mapping[str, float]
    dice: float  # with the label


class ImitatedScan(NamedTuple):
    """An imitated scan."""

    source: int  # number of the held-out scan
    example: int  # number of the target scan whose style it has; -1: of none
    latents: np.ndarray  # see `pool_latents`


def calibrate(
    items: Sequence[Mapping[str, str]],
    source_training: Sequence[Mapping[str, str]],
    target_training: Sequence[Mapping[str, str]],
    preprocessing: Preprocessing,
    loss: Loss,
    network: Segmenter,
    fingerprint: Fingerprint,
    inferer: SliceSegmenter,
    model_dir: str | Path,
    device: str | torch.device,
    seed: int = 0,
) -> None:
    """Writes `calibration.json` beside a model.

    Each held-out source scan is prepared as in training, made to look like target scans of different quality, and
    segmented by the model and by networks of earlier epochs; signals and true Dice of all these masks are what the fit
    learns from. Labels are only compared with masks: no image depends on them.

    Args:
        items: held-out source scans with their labels.
        source_training: source scans with their labels that the model was trained on; where G_t is guided, its guide
            learns from them.
        target_training: target scans that the model was trained on, which imitated scans are compared with.
        preprocessing: of source volumes in training.
        loss: Eq. 3, for the guide.
        network: the model.
        fingerprint: of the model.
        inferer: as in inference.
        model_dir: folder of `model.pt`, and of `generators/` and `epochs/` where training kept them.
        device: where networks run.
        seed: of everything random.

    Raises:
        InputError: when a held-out scan or a target scan cannot be used, too few masks show structures, or the model
            changes meanwhile.
    """
    folder = Path(model_dir)
    model_sha256 = hash_of_file(folder / "model.pt")
    held_out = prepare_held_out(items, preprocessing)
    examples = sample_target(target_training, fingerprint, inferer)
    generator = load_target_generator(folder, fingerprint, device)
    is_guided = generator is not None and generator.num_classes > 0
    guide = fine_tune_on_source(network, source_training, preprocessing, loss, device, seed) if is_guided else network
    networks = [network, *weaker_networks(folder, network, model_sha256, device, seed)]
    kinds = kinds_of_imitation(generator)
    logger.info("imitated target scans: %s", ", ".join(kinds))
    rows: list[Row] = []
    imitated: list[ImitatedScan] = []
    with torch.inference_mode(False), torch.no_grad():
        for number, (image, truth) in enumerate(tqdm(held_out, desc="calibration scans", unit="scan", disable=None)):
            meter = SignalMeter(along_axes(inferer, image), fingerprint, FULL)
            for at, kind in enumerate(kinds):
                imitation = Imitation(kind, generator, guide, examples, _seed(seed, number, at))
                scan = as_scan(image, imitation, fingerprint)
                slices = imitation(meter.inferer.sample_slices(scan, SLICES, device))
                for each in networks:
                    rows += _measure(len(imitated), scan, slices, truth, each, imitation, meter, device)
                latents = pool_latents(network, slices, inferer.windows_at_once)
                imitated.append(ImitatedScan(number, imitation.example, latents))
        targets = [pool_latents(network, slices.to(device), inferer.windows_at_once) for slices in examples]
    found_in = {imitated[row.imitation].source for row in rows}
    if len(rows) < LEAST_MASKS or len(found_in) < FOLDS:
        raise InputError(
            f"{folder / 'model.pt'}: it finds structures in {len(rows)} masks of {len(found_in)} held-out scans only: "
            "it has not learned them; train again."
        )
    if hash_of_file(folder / "model.pt") != model_sha256:
        raise InputError(
            f"{folder / 'model.pt'}: it changed while it was calibrated: wait until its training has ended."
        )
    ours, theirs = np.array([scan.latents for scan in imitated]), np.array(targets)
    sources, styles = np.array([scan.source for scan in imitated]), np.array([scan.example for scan in imitated])
    resemblance, weights = compare(ours, sources, styles, theirs, seed)
    calibration = Calibration(
        model_sha256,
        len(items),
        len(imitated) * len(networks),
        list(kinds),
        resemblance,
        range_of(np.vstack([ours, theirs])),
        {name: _fit(rows, chosen, sources, weights, seed) for name, chosen in SIGNALS.items()},
    )
    path = write_calibration(calibration, folder)
    logger.info("%s: measured on %d masks of %d imitated target scans", path, calibration.masks, len(imitated))
    if resemblance.doubt:
        logger.warning("%s: %s; intervals are wider", path, resemblance.doubt)


def _measure(
    number: int,
    scan: MetaTensor,
    slices: torch.Tensor,
    truth: np.ndarray,
    network: nn.Module,
    imitation: Imitation,
    meter: SignalMeter,
    device: str | torch.device,
) -> list[Row]:
    """Returns signals and Dice of the masks that are not empty, of structures that the scan shows."""
    segmentation = meter.inferer.segment(scan, ChangedImages(meter.inferer.fuse(network), imitation), device)
    signals = meter.measure(scan, slices, segmentation, network, device, imitation)
    counts = count_overlap(truth, segmentation.labels.numpy(), meter.fingerprint.network.out_channels)
    dice = dice_of(counts)
    return [
        Row(number, signals[name], float(dice[value]))
        for value, name in meter.fingerprint.structure_names.items()
        if counts[0, value] and name in signals
    ]


def _fit(
    rows: Sequence[Row], chosen: Sequence[str], sources: np.ndarray, weights: np.ndarray, seed: int
) -> MonotoneFit:
    signals = [{name: row.signals[name] for name in chosen} for row in rows]
    imitations = np.array([row.imitation for row in rows])
    return fit(signals, np.array([row.dice for row in rows]), sources[imitations], weights[imitations], seed)


def _seed(seed: int, scan: int, kind: int) -> int:
    return int(np.random.SeedSequence([seed, scan, kind]).generate_state(1)[0])
