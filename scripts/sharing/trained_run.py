"""A finished training as it is shared: weights, fingerprint, and what its records say about how they were made."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from sifa.fingerprint.fingerprint import Fingerprint, read_fingerprint
from sifa.networks import Segmenter
from sifa.networks.weights import load_weights
from sifa.reports.scalar_table import EPOCH, read_rows
from sifa.reports.selection_table import read_scores
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file

# A path of some machine within a text: the folders of a root or a home, a drive, a share
PATH = re.compile(r"(?:^|[\s\"'(=:,])(?:/[^/\s]+/|~[\w.-]*/|[A-Za-z]:[\\/]|\\\\)")


@dataclass(frozen=True)
class TrainedRun:
    """A finished training.

    Attributes:
        fingerprint: what the network was trained on.
        weights: content of a `model.pt` with the weights, without the names that the run's own file holds of the
            process that wrote it.
        weights_sha256: of the run's own `model.pt`, by which evaluations name it.
        config: the merged config of the training; empty where the run has none.
        configs: names of the config files of its command.
        seed: of the training.
        epoch: the epoch that the weights belong to; None: unknown.
        epochs: number of epochs; None: unknown.
        selected: whether that epoch was selected by a score on unlabeled target slices; otherwise it is the last.
        iterations: of the whole training.
        versions: of the software that trained, by package.
    """

    fingerprint: Fingerprint
    weights: bytes
    weights_sha256: str
    config: Mapping[str, Any]
    configs: Sequence[str]
    seed: int
    epoch: int | None
    epochs: int | None
    selected: bool
    iterations: int
    versions: Mapping[str, str]

    @property
    def packed_sha256(self) -> str:
        """The SHA-256 of `weights`."""
        return hashlib.sha256(self.weights).hexdigest()


def read_run(folder: Path) -> TrainedRun:
    """Reads the output folder of a training and checks that it can be shared.

    Raises:
        InputError: when it is no such folder, the training has not finished, its network takes several channels,
            weights and fingerprint do not fit, or the fingerprint holds a path.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder: give --model_dir the output folder of a training.")
    if not (folder / "model.pt").is_file():
        raise InputError(f"{folder}: it holds no model.pt: give --model_dir the output folder of a finished training.")
    session, seed = _last_session(folder / "run.json")
    fingerprint = read_fingerprint(folder / "fingerprint.json")
    if fingerprint.network.in_channels != 1:
        raise InputError(
            f"{folder / 'fingerprint.json'}: its network takes {fingerprint.network.in_channels} channels, and this "
            "bundle segments scans of one: train on one of the channels."
        )
    _refuse_paths(fingerprint, folder / "fingerprint.json")
    network = load_weights(Segmenter(**asdict(fingerprint.network)), folder / "model.pt")
    stream = io.BytesIO()  # in a file torch would note its temporary name, which tells the machine and the process
    torch.save(dict(network.state_dict()), stream)
    iterations = int(session["last_iteration"])
    epoch, epochs, selected = _chosen_epoch(folder, iterations)
    return TrainedRun(
        fingerprint=fingerprint,
        weights=stream.getvalue(),
        weights_sha256=hash_of_file(folder / "model.pt"),
        config=_read_config(folder / "config.yaml"),
        configs=_config_names(session.get("command", [])),
        seed=seed,
        epoch=epoch,
        epochs=epochs,
        selected=selected,
        iterations=iterations,
        versions={str(name): str(version) for name, version in session["versions"].items()},
    )


def _last_session(path: Path) -> tuple[Mapping[str, Any], int]:
    """Returns the last session of a finished training and its seed."""
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file: give --model_dir the output folder of a training, which has one beside "
            "its model.pt."
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        session, seed = record["sessions"][-1], int(record["seed"])
        ended, _ = session["ended"], dict(session["versions"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: it is not the record of a training: copy it again from the run.") from error
    if ended is None or session["last_iteration"] is None:
        raise InputError(f"{path}: this training has not finished: wait for its end, or finish it with --resume auto.")
    return session, seed


def _refuse_paths(fingerprint: Fingerprint, file: Path) -> None:
    """Refuses a fingerprint whose texts hold a path of some machine."""
    texts = {
        "name": [fingerprint.name],
        "labels": list(fingerprint.labels.values()),
        "modality": [fingerprint.source.modality, fingerprint.target.modality],
        "terminology": [json.dumps(dict(fingerprint.terminology))],
    }
    for entry, values in texts.items():
        for value in values:
            if PATH.search(value):
                raise InputError(f"{file}: {entry} holds a path ({value}): write what others may read there instead.")


def _chosen_epoch(folder: Path, iterations: int) -> tuple[int | None, int | None, bool]:
    """Returns the epoch of the weights, the number of epochs, and whether the epoch was selected by its score.

    `selection.csv` lists the scores of all epochs where the training selected one; of equal scores the later one wins.
    """
    scores = read_scores(folder / "selection.csv")
    if scores is not None and scores.iteration == iterations:
        return scores.chosen, int(scores.epochs[-1]), True
    columns, rows = read_rows(folder / "scalars.csv")
    last = int(rows[-1][columns.index(EPOCH)]) if rows else None
    return last, last, False


def _read_config(path: Path) -> Mapping[str, Any]:
    """Returns the merged config of a run; empty without a file."""
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: this is not valid YAML: copy it again from the run.") from error
    return content if isinstance(content, Mapping) else {}


def _config_names(command: Sequence[Any]) -> list[str]:
    """Returns the names of the YAML files in a command, without their folders."""
    return re.findall(r"([\w.-]+\.ya?ml)\b", " ".join(str(part) for part in command).replace("\\", "/"))
