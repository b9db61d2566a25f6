"""Calibrates predicted Dice on held-out source scans that are made to look like target scans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import nn
from tqdm import tqdm

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.networks.batch_norm import for_inference
from sifa.networks.segmenter import Segmenter
from sifa.networks.target_generator import TargetGenerator
from sifa.networks.weights import load_weights
from sifa.quality_control.calibration import Calibration, write_calibration
from sifa.quality_control.imitation import KINDS, imitate
from sifa.quality_control.monotone_fit import fit
from sifa.quality_control.signal_meter import FULL, SIGNALS, SignalMeter
from sifa.quality_control.signals import agreement
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file

logger = logging.getLogger(__name__)

LEAST_SCANS = 8
EARLIER = 3  # networks of earlier epochs, which supply poor masks
PERTURBATION = 0.1  # of weights, where a run kept no epochs, as a share of their spread

Preprocessing = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def require_scans(items: Sequence[Mapping[str, str]], dataset_file: str | Path) -> None:
    """Refuses a data set with too few held-out source scans.

    Raises:
        InputError: when there are fewer than `LEAST_SCANS`.
    """
    if len(items) < LEAST_SCANS:
        raise InputError(
            f"{dataset_file}: source.validation lists {len(items)} scans: calibrating needs at least {LEAST_SCANS} "
            "labeled source scans that were not trained on; list more there and train again."
        )


def calibrate(
    items: Sequence[Mapping[str, str]],
    preprocessing: Preprocessing,
    network: Segmenter,
    fingerprint: Fingerprint,
    inferer: SliceSegmenter,
    model_dir: str | Path,
    device: str | torch.device,
    seed: int = 0,
) -> None:
    """Writes `calibration.json` beside a model.

    Each held-out source scan is prepared as in training, made to look like a target scan in several ways, degraded at
    random, and segmented by the model and by networks of earlier epochs; signals and true Dice of all these masks are
    what the fit learns from. Labels are only compared with masks: no image depends on them.

    Args:
        items: held-out source scans with their labels.
        preprocessing: of source volumes in training.
        network: the model.
        fingerprint: of the model.
        inferer: as in inference.
        model_dir: folder of `model.pt`, and of `generators/` and `epochs/` where training kept them.
        device: where networks run.
        seed: of everything random.
    """
    folder = Path(model_dir)
    generator = _load_generator(folder, fingerprint, device)
    networks = [network, *_weaker(folder, network, device, seed)]
    kinds = KINDS if generator is not None else ("appearance",) * len(KINDS)
    meter = SignalMeter(inferer, fingerprint, FULL)
    rows: list[tuple[int, str, dict[str, float], float]] = []
    with torch.inference_mode(False), torch.no_grad():
        for number, item in enumerate(tqdm(items, desc="calibration scans", unit="scan", disable=None)):
            prepared = preprocessing(dict(item))
            truth = np.rint(np.asarray(prepared["label"])[0]).astype(np.uint8)
            for at, kind in enumerate(kinds):
                scan = imitated_scan(
                    prepared["image"], kind, generator, network, fingerprint, device, _seed(seed, number, at)
                )
                for each in networks:
                    segmentation = inferer.segment(scan, for_inference(each), device)
                    signals = meter.measure(scan, segmentation, each, device)
                    dice = agreement(truth, segmentation.labels.numpy(), len(fingerprint.labels))
                    shown = np.bincount(truth.ravel(), minlength=len(fingerprint.labels)) > 0
                    for value, name in fingerprint.structure_names.items():
                        if shown[value]:
                            rows.append((number, name, signals[name], float(dice[value])))
    calibration = Calibration(
        hash_of_file(folder / "model.pt"),
        len(items),
        len(items) * len(kinds) * len(networks),
        list(dict.fromkeys(kinds)),
        {
            name: {structure: _fit_rows(rows, structure, chosen, seed) for structure in {row[1] for row in rows}}
            for name, chosen in SIGNALS.items()
        },
    )
    path = write_calibration(calibration, folder)
    logger.info(
        "%s: measured on %d masks of %d imitated target scans", path, calibration.masks, len(items) * len(kinds)
    )


def imitated_scan(
    image: torch.Tensor,
    kind: str,
    generator: nn.Module | None,
    network: nn.Module,
    fingerprint: Fingerprint,
    device: str | torch.device,
    seed: int,
) -> MetaTensor:
    """Returns a prepared source volume (C, H, W, D) as a scan of the target, in the target's intensities."""
    slices = torch.as_tensor(image).as_subclass(torch.Tensor).movedim(-1, 0).float().to(device)
    volume = imitate(slices, kind, generator, network, seed).movedim(0, -1).cpu()
    rule = fingerprint.target.intensity
    lower, upper = (float(rule["lower"]), float(rule["upper"])) if rule["mode"] == "window" else (-1.0, 1.0)
    intensities = lower + (volume + 1) / 2 * (upper - lower)
    affine = image.affine if isinstance(image, MetaTensor) else torch.eye(4)
    return MetaTensor(intensities, affine=affine)


def _fit_rows(rows: Sequence[tuple[int, str, dict[str, float], float]], structure: str, chosen: Any, seed: int) -> Any:
    own = [row for row in rows if row[1] == structure]
    scores = np.array([np.mean([signals[name] for name in chosen]) for _, _, signals, _ in own])
    return fit(scores, np.array([row[3] for row in own]), np.array([row[0] for row in own]), seed)


def _seed(seed: int, scan: int, kind: int) -> int:
    return int(np.random.SeedSequence([seed, scan, kind]).generate_state(1)[0])


def _load_generator(folder: Path, fingerprint: Fingerprint, device: str | torch.device) -> nn.Module | None:
    """Returns G_t of the run; None where its method has none."""
    path = folder / "generators" / "target_generator.pt"
    if not path.is_file():
        return None
    first = next(iter(torch.load(path, map_location="cpu", weights_only=True).values()))
    channels = fingerprint.network.in_channels
    generator = TargetGenerator(channels, fingerprint.network.width, num_classes=first.shape[1] - channels)
    return load_weights(generator, path, device)


def _weaker(folder: Path, network: Segmenter, device: str | torch.device, seed: int) -> list[nn.Module]:
    """Returns networks of earlier epochs; where a run kept none, the model with perturbed weights."""
    kept = sorted((folder / "epochs").glob("*/model.pt"))[:-1]
    places: Any = np.unique(np.linspace(0, len(kept) - 1, EARLIER).round().astype(int)) if kept else []
    if kept:
        return [load_weights(deepcopy(network), kept[place], device) for place in places]
    generator = torch.Generator().manual_seed(seed)
    perturbed: list[nn.Module] = []
    for step in range(1, EARLIER + 1):
        copy = deepcopy(network)
        for parameter in copy.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            spread = parameter.detach().std() if parameter.numel() > 1 else parameter.detach().abs().mean()
            parameter.data += PERTURBATION * step * spread * noise
        perturbed.append(copy.eval())
    return perturbed
