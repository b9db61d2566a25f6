"""The files of a zip that differ from the bundle's when a run is shared: weights, metadata, model card, licenses."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from sifa.quality_control.calibration import NAME as CALIBRATION
from sifa.quality_control.calibration import read_calibration
from sifa.utils.errors import InputError
from sifa.utils.overlays import COMPLETE, FOLLOWS, WRITTEN

from sharing.measured import Measured, find_results, read_measured
from sharing.model_card import MARKER, model_card, open_fields
from sharing.run_metadata import OPEN_FIELDS, run_metadata
from sharing.trained_run import TrainedRun, read_run

NAME = re.compile(r"[a-z][a-z0-9_]{1,79}")
REPLACED = ("docs/", "models/")  # folders of the bundle whose files are not taken as they are
OTHER_CONFIGS = {"metadata", "terminology", "logging", "logging_debug"}  # stems of those that no command names
CARD, METADATA, LICENSE = "docs/README.md", "configs/metadata.json", "docs/data_license.txt"
PAGES = "docs/bundle"  # of the bundle's own documents, whose links among each other stay valid
NOTE = (
    "> This page is about the bundle in general. Where it says *shipped weights*, it means those of the bundle's "
    "repository and not the weights in `models/` of this folder; `docs/README.md` describes these.\n\n"
)


def check_name(name: Any) -> str:
    """Returns a bundle's name.

    Raises:
        InputError: when MONAI, MONAI Label or a file system could not use it.
    """
    if name is None:
        raise InputError("--name is missing: name the bundle, such as --name liver_ct.")
    if not NAME.fullmatch(str(name)) or re.search(r"_v\d", str(name)):
        raise InputError(
            f"--name {name}: it is no name of a bundle: write lower-case letters, digits and _, beginning with a "
            "letter, and no version such as _v1, for example liver_ct."
        )
    return str(name)


def shared_files(
    name: str, files: dict[str, Path], model_dir: Path, results: Path | None
) -> tuple[dict[str, bytes], str]:
    """Returns the content of the files of the zip by name, and what the author has to know and to do.

    Args:
        name: of the bundle.
        files: of the bundle, by their names in the zip.
        model_dir: output folder of the training.
        results: results.json of its evaluation; None: the one in `model_dir` that measures its weights, if there is
            one.

    Raises:
        InputError: when the run or the results cannot be used, or a config does not belong to the bundle.
    """
    _refuse_foreign_configs(files)
    run = read_run(model_dir)
    path = results or find_results(model_dir, run)
    measured = None if path is None else read_measured(path, run)
    content = {inside: file.read_bytes() for inside, file in files.items() if not inside.startswith(REPLACED)}
    content |= _pages(files)
    content["models/model.pt"] = run.weights
    content["models/fingerprint.json"] = _json(run.fingerprint.to_json())
    if (calibration := model_dir / CALIBRATION).is_file():
        read_calibration(model_dir)  # refuses one of other weights
        entries = json.loads(calibration.read_text(encoding="utf-8"))
        entries["model_sha256"] = hashlib.sha256(run.weights).hexdigest()  # of the file in the zip
        content[f"models/{CALIBRATION}"] = _json(entries)
    content[METADATA] = _json(run_metadata(name, run, measured))
    content[CARD] = model_card(name, run, measured, files[METADATA].parent).encode()
    content[LICENSE] = Path(__file__).with_name("data_license.txt").read_bytes()
    return content, _summary(run, measured, path)


def _refuse_foreign_configs(files: dict[str, Path]) -> None:
    """Refuses configs that are not the bundle's: they may hold paths and settings that are nobody else's business."""
    known = {*COMPLETE, *FOLLOWS} - set(WRITTEN) | OTHER_CONFIGS
    for inside, file in files.items():
        if inside.startswith("configs/") and file.stem not in known:
            raise InputError(
                f"{file}: it is no config of the bundle, and it would be shared: move it to another folder."
            )


def _pages(files: dict[str, Path]) -> dict[str, bytes]:
    """Returns the bundle's documents, in a folder of their own and with a note."""
    pages = {}
    for inside, file in files.items():
        if inside.startswith("docs/"):
            note = NOTE.encode() if inside.endswith((".md", ".txt")) else b""
            pages[f"{PAGES}/{inside.removeprefix('docs/')}"] = note + file.read_bytes()
    return pages


def _summary(run: TrainedRun, measured: Measured | None, path: Path | None) -> str:
    """Returns what others will read, the figures in the card, and, as the last line, what is left to the author."""
    dice = "not measured" if measured is None else f"from {path}"
    return (
        f"data set, as others will read it: {run.fingerprint.name}\n"
        f"Dice in the model card: {dice}\n"
        f"The author has to fill in, at the marks {MARKER} ...]: {CARD} ({open_fields(measured)}); {METADATA} "
        f"({OPEN_FIELDS}); {LICENSE}"
    )


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
