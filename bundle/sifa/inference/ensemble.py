"""The network of a run: that of one training, or the mean of several trainings and of flipped images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint, read_fingerprint
from sifa.networks.network_average import NetworkAverage
from sifa.networks.segmenter import Segmenter
from sifa.networks.weights import load_weights
from sifa.transforms.orientation import ACQUIRED, AXCODES
from sifa.utils.errors import InputError, UsageError
from sifa.utils.options import names_of

AXES = {"rows": 2, "columns": 3}  # of images (B, C, H, W)


def model_folders(model_dir: Any) -> list[Path]:
    """Returns the folders of `--model_dir`: one folder, or a list.

    Raises:
        UsageError: when it is none, or a folder is listed twice.
    """
    is_folder = isinstance(model_dir, str | Path) and Path(model_dir).is_dir()
    folders = [Path(folder) for folder in ([model_dir] if is_folder else names_of("model_dir", model_dir))]
    twice = [folder for folder in folders if [other.resolve() for other in folders].count(folder.resolve()) > 1]
    if twice:
        raise UsageError(f"--model_dir: {twice[0]} is listed twice: give each training once.")
    return folders


def shared_fingerprint(folders: Sequence[Path]) -> Fingerprint:
    """Returns the fingerprint of the first of several trainings, after checking that they can be averaged.

    Volumes of structures, the spatial prior and the terminology are those of the first.

    Args:
        folders: with a `fingerprint.json` each.

    Raises:
        InputError: when two trainings differ in what their networks see or return.
    """
    first, *others = (read_fingerprint(folder / "fingerprint.json") for folder in folders)
    here = _essentials(first)
    for folder, other in zip(folders[1:], others, strict=True):
        there = _essentials(other)
        for name, value in here.items():
            if there[name] != value:
                raise InputError(
                    f"{folder / 'fingerprint.json'}: {name} is {there[name]}, in {folders[0]} {value}: only trainings "
                    "that prepare scans alike and have the same labels can be averaged."
                )
    return first


def _essentials(fingerprint: Fingerprint) -> dict[str, Any]:
    """Returns the entries in which averaged networks have to agree, by the names that they have in the file."""
    return {
        "labels": dict(fingerprint.labels),
        "label_values": dict(fingerprint.label_values),
        "slice_plane": fingerprint.slice_plane,
        "orientation": fingerprint.orientation,
        "spacing": list(fingerprint.spacing),
        "slice_size": list(fingerprint.slice_size),
        "target.intensity": dict(fingerprint.target.intensity),
        "pamr_iterations": fingerprint.pamr_iterations,
        "network.in_channels": fingerprint.network.in_channels,
    }


def load_networks(
    network: nn.Module, folders: Sequence[Path], device: str | torch.device, flips: Sequence[Sequence[int]]
) -> nn.Module:
    """Loads the weights of each training and returns their mean; with one training and no flips, that network itself.

    Args:
        network: a network of the size that the first fingerprint describes.
        folders: with `model.pt` and `fingerprint.json` each.
        device: device of the returned network.
        flips: what `flips_of` returned.

    Raises:
        InputError: when weights are missing or do not fit.
    """
    networks = [load_weights(network, folders[0] / "model.pt", device)]
    for folder in folders[1:]:
        size = read_fingerprint(folder / "fingerprint.json").network
        networks.append(load_weights(Segmenter(**asdict(size)), folder / "model.pt", device))
    return networks[0] if len(networks) == len(flips) == 1 else NetworkAverage(networks, flips).eval()


def flips_of(tta: Any, orientation: str) -> list[tuple[int, ...]]:
    """Returns the flips of test-time augmentation: axes of images that are reversed, by pass.

    Args:
        tta: None or False: none. True: every axis of a slice except left to right, along which a network has learned
            which side an organ is on; of acquired slices the rows. `rows`, `columns` or both: these, whatever they are.
        orientation: axis codes (nibabel) of rows, columns and slices, or `acquired`.

    Raises:
        UsageError: when it is none of these.
    """
    if tta is None or tta is False:
        return [()]
    if tta is True or str(tta).lower() == "true":
        codes = AXCODES["axial"] if orientation == ACQUIRED else orientation  # columns run to the patient's left
        names = [name for name, code in zip(AXES, codes, strict=False) if code not in "LR"]
    else:
        names = names_of("tta", tta)
    unknown = [name for name in names if name not in AXES]
    if unknown:
        raise UsageError(f"--tta {tta}: {unknown[0]!r} is no axis of a slice: give True, rows, columns or both.")
    axes = sorted({AXES[name] for name in names})
    return [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]
