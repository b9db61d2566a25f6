"""The weights of another run that a training starts from, or reads without changing them."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from sifa.fingerprint.fingerprint import Fingerprint, read_fingerprint
from sifa.networks.weights import freeze, load_weights
from sifa.utils.errors import InputError


def initial_fingerprint(folder: str | Path | None) -> Fingerprint:
    """Returns the fingerprint of an earlier run, for a training that cannot compute one.

    Args:
        folder: the output folder of that run, as of `InitialWeights`.

    Raises:
        InputError: when it is None or holds no run.
    """
    if folder is None:
        raise InputError("initial_weights is null, but this training starts from a trained network: give its folder.")
    return read_fingerprint(Path(folder) / "fingerprint.json")


class InitialWeights:
    """The networks of an earlier run, for a later stage of a method.

    A run keeps its segmenter in `model.pt` and other networks in `generators/<name>.pt`. The stages of a method have to
    see the same images: labels, slices, network width and intensity rules must be the same in both runs.

    Args:
        folder: the output folder of the earlier run; None: networks keep the weights that they have.
        fingerprint: the fingerprint of this run.
        output_dir: the output folder of this run; None: not compared.

    Raises:
        InputError: when the folder holds no run, is that of this run, or has a fingerprint that differs where it must
            not.
    """

    def __init__(
        self, folder: str | Path | None, fingerprint: Fingerprint, output_dir: str | Path | None = None
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        if output_dir is not None and self.folder.resolve() == Path(output_dir).resolve():
            raise InputError(f"{folder}: initial_weights and output_dir are one folder: give another --output_dir.")
        path = self.folder / "fingerprint.json"
        if not path.is_file():
            raise InputError(f"{path}: there is no such file: give --initial_weights the output folder of a run.")
        here, there = _essentials(fingerprint), _essentials(read_fingerprint(path))
        for name, value in here.items():
            if there[name] != value:
                raise InputError(
                    f"{path}: initial_weights is a run with another {name} ({there[name]} there, {value} here): start "
                    "from a run with the same data set and size, or train that stage again with these settings."
                )

    @property
    def sha256(self) -> dict[str, str]:
        """The SHA-256 of each file of weights in the folder, for a run's identity; empty without a folder."""
        if self.folder is None:
            return {}
        files = [self.folder / "model.pt", *sorted((self.folder / "generators").glob("*.pt"))]
        return {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}

    def load(self, network: nn.Module, name: str = "segmenter") -> nn.Module:
        """Returns `network` with the weights of the earlier run; unchanged without a folder.

        Args:
            network: the network; its training or evaluation mode is preserved.
            name: which network of the run it is: `segmenter`, or one of its `generators/`.

        Raises:
            InputError: when the run has no such network, or its weights do not fit.
        """
        if self.folder is None:
            return network
        path = self.folder / ("model.pt" if name == "segmenter" else f"generators/{name}.pt")
        if not path.is_file():
            raise InputError(
                f"{path}: there is no such file: give --initial_weights the output folder of a run that trained this "
                "network and has ended an epoch."
            )
        training = network.training
        return load_weights(network, path).train(training)

    def load_frozen(self, network: nn.Module, name: str = "segmenter") -> nn.Module:
        """Returns `network` with the weights of the earlier run, in evaluation mode and without gradients.

        Raises:
            InputError: when there is no earlier run, or as in `load`.
        """
        if self.folder is None:
            raise InputError(f"initial_weights is null, but '{name}' is read from an earlier run: give its folder.")
        return freeze(self.load(network, name))


def _essentials(fingerprint: Fingerprint) -> dict[str, Any]:
    """Returns the entries in which two stages have to agree, by the words of the message."""
    return {
        "set of labels": dict(fingerprint.labels),
        "slice plane": fingerprint.slice_plane,
        "slice size": list(fingerprint.slice_size),
        "spacing": list(fingerprint.spacing),
        "network": asdict(fingerprint.network),
        "intensity rule of the source": dict(fingerprint.source.intensity),
        "intensity rule of the target": dict(fingerprint.target.intensity),
    }
