"""The `metadata.json` of a run that is shared."""

from __future__ import annotations

from typing import Any

from model_metadata import metadata_of

from sharing.measured import Measured
from sharing.methods import task_of
from sharing.model_card import fill_in
from sharing.trained_run import TrainedRun

OPEN_FIELDS = "authors, copyright, intended_use"


def run_metadata(name: str, run: TrainedRun, measured: Measured | None) -> dict[str, Any]:
    """Returns the metadata of a run; `version` is that of the software.

    Args:
        name: of the bundle.
        run: the training.
        measured: its evaluation; None: not measured.
    """
    content = metadata_of(run.fingerprint)
    version, trained = content["version"], run.versions.get("sifa", "unknown")
    return {
        **content,
        "name": name,
        "changelog": {version: f"weights trained with version {trained} of the SIFA bundle, packed with {version}"},
        "task": task_of(run.config, run.fingerprint.source.modality, run.fingerprint.target.modality),
        "authors": fill_in("names"),
        "copyright": fill_in("owner of the weights"),
        "intended_use": f"Not for clinical use. {fill_in('what the model is for')}",
        "eval_metrics": {} if measured is None else {"mean_dice": measured.mean_dice, "dice": measured.dice},
    }
