"""Calibrates predicted Dice on held-out source scans that are made to look like target scans."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from torch import nn
from tqdm import tqdm

from sifa.data.slice_cache import Preprocessing
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.networks.segmenter import Segmenter
from sifa.networks.target_generator import TargetGenerator
from sifa.networks.weights import guiding_classes, load_weights
from sifa.quality_control.calibration import Calibration, write_calibration
from sifa.quality_control.held_out import prepare_held_out
from sifa.quality_control.imitation import Imitation, kinds_of_imitation
from sifa.quality_control.monotone_fit import MonotoneFit, fit
from sifa.quality_control.signal_meter import FULL, SIGNALS, SignalMeter
from sifa.quality_control.signals import agreement
from sifa.quality_control.source_guide import Loss, fine_tune_on_source
from sifa.quality_control.views import ChangedImages
from sifa.transforms.padding import without_marks
from sifa.transforms.slices import affine_of
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file

logger = logging.getLogger(__name__)

EARLIER = 2  # networks of earlier epochs, which supply poor masks
PERTURBATION = 0.1  # of weights, where a run kept no epochs, as a share of their spread


class Row(NamedTuple):
    """A measured mask of a structure."""

    scan: int  # number of the held-out scan
    structure: str
    signals: Mapping[str, float]
    dice: float  # with the label


def calibrate(
    items: Sequence[Mapping[str, str]],
    source_training: Sequence[Mapping[str, str]],
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
        preprocessing: of source volumes in training.
        loss: Eq. 3, for the guide.
        network: the model.
        fingerprint: of the model.
        inferer: as in inference.
        model_dir: folder of `model.pt`, and of `generators/` and `epochs/` where training kept them.
        device: where networks run.
        seed: of everything random.

    Raises:
        InputError: when a held-out scan cannot be used, or the model changes meanwhile.
    """
    folder = Path(model_dir)
    model_sha256 = hash_of_file(folder / "model.pt")
    held_out = prepare_held_out(items, preprocessing)
    generator = _load_generator(folder, fingerprint, device)
    is_guided = generator is not None and generator.num_classes > 0
    guide = fine_tune_on_source(network, source_training, preprocessing, loss, device, seed) if is_guided else network
    networks = [network, *_weaker(folder, network, model_sha256, device, seed)]
    kinds = kinds_of_imitation(generator)
    rows: list[Row] = []
    with torch.inference_mode(False), torch.no_grad():
        for number, (image, truth) in enumerate(tqdm(held_out, desc="calibration scans", unit="scan", disable=None)):
            meter = SignalMeter(along_axes(inferer, image), fingerprint, FULL)
            for at, kind in enumerate(kinds):
                imitation = Imitation(kind, generator, guide, _seed(seed, number, at))
                scan = as_scan(image, imitation, fingerprint)
                for each in networks:
                    rows += _measure(number, scan, truth, each, imitation, meter, device)
    if hash_of_file(folder / "model.pt") != model_sha256:
        raise InputError(
            f"{folder / 'model.pt'}: it changed while it was calibrated: wait until its training has ended."
        )
    calibration = Calibration(
        model_sha256,
        len(items),
        len(items) * len(kinds) * len(networks),
        list(kinds),
        {name: _fit(rows, chosen, seed) for name, chosen in SIGNALS.items()},
    )
    path = write_calibration(calibration, folder)
    logger.info(
        "%s: measured on %d masks of %d imitated target scans", path, calibration.masks, len(items) * len(kinds)
    )


def along_axes(inferer: SliceSegmenter, image: torch.Tensor) -> SliceSegmenter:
    """Returns an inferer that takes the axes of a prepared volume (C, H, W, D) for rows, columns and slices.

    Prepared volumes have been turned already. Their affine need not lead to the same turn again, since pixels have
    other sizes than the scan's voxels.
    """
    turned = copy(inferer)
    turned.orientation = "".join(nib.aff2axcodes(affine_of(image)))
    return turned


def as_scan(image: torch.Tensor, imitation: Imitation, fingerprint: Fingerprint) -> MetaTensor:
    """Returns a prepared source volume (C, H, W, D), as the imitation degrades it, in the target's intensities."""
    slices = without_marks(torch.as_tensor(image).as_subclass(torch.Tensor).movedim(-1, 0).float())
    volume = imitation.degrade_source(slices).movedim(0, -1)
    rule = fingerprint.target.intensity
    lower, upper = (float(rule["lower"]), float(rule["upper"])) if rule["mode"] == "window" else (-1.0, 1.0)
    return MetaTensor(lower + (volume + 1) / 2 * (upper - lower), affine=torch.as_tensor(affine_of(image)))


def _measure(
    number: int,
    scan: MetaTensor,
    truth: np.ndarray,
    network: nn.Module,
    imitation: Imitation,
    meter: SignalMeter,
    device: str | torch.device,
) -> list[Row]:
    """Returns signals and Dice of the structures that a scan shows."""
    segmentation = meter.inferer.segment(scan, ChangedImages(meter.inferer.fuse(network), imitation), device)
    signals = meter.measure(scan, segmentation, network, device, imitation)
    classes = meter.fingerprint.network.out_channels
    dice = agreement(truth, segmentation.labels.numpy(), classes)
    shown = np.bincount(truth.ravel(), minlength=classes) > 0
    return [
        Row(number, name, signals[name], float(dice[value]))
        for value, name in meter.fingerprint.structure_names.items()
        if shown[value]
    ]


def _fit(rows: Sequence[Row], chosen: Sequence[str], seed: int) -> MonotoneFit:
    signals = [{name: row.signals[name] for name in chosen} for row in rows]
    return fit(signals, np.array([row.dice for row in rows]), np.array([row.scan for row in rows]), seed)


def _seed(seed: int, scan: int, kind: int) -> int:
    return int(np.random.SeedSequence([seed, scan, kind]).generate_state(1)[0])


def _load_generator(folder: Path, fingerprint: Fingerprint, device: str | torch.device) -> TargetGenerator | None:
    """Returns G_t of the run; None where its method has none."""
    path = folder / "generators" / "target_generator.pt"
    if not path.is_file():
        return None
    channels = fingerprint.network.in_channels
    generator = TargetGenerator(channels, fingerprint.network.width, num_classes=guiding_classes(path, channels))
    load_weights(generator, path, device)
    return generator.to(device)


def _weaker(
    folder: Path, network: Segmenter, model_sha256: str, device: str | torch.device, seed: int
) -> list[nn.Module]:
    """Returns networks of other epochs than the model's; where a run kept none, the model with perturbed weights."""
    epochs = sorted((folder / "epochs").glob("*/model.pt"))
    kept = [path for path in epochs if hash_of_file(path) != model_sha256]
    if kept:
        places = np.unique(np.linspace(0, len(kept) - 1, EARLIER).round().astype(int))
        return [load_weights(deepcopy(network), kept[place], device) for place in places]
    generator = torch.Generator().manual_seed(seed)
    return [_perturbed(network, PERTURBATION * step, generator) for step in range(1, EARLIER + 1)]


def _perturbed(network: Segmenter, strength: float, generator: torch.Generator) -> nn.Module:
    """Returns a copy with noise on all weights, of a strength that is a share of the spread of each tensor."""
    perturbed = deepcopy(network)
    for parameter in perturbed.parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        spread = parameter.detach().std() if parameter.numel() > 1 else parameter.detach().abs().mean()
        parameter.data += strength * spread * noise
    return perturbed.eval()
