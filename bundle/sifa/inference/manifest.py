"""`manifest.json`: the cases of a run over a folder of scans, valid at any moment."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import sifa
from sifa.inference.case import Case, count_statuses
from sifa.utils.errors import InputError, first_line
from sifa.utils.files import write_text

logger = logging.getLogger(__name__)

NAME = "manifest.json"
OUTDATED = ".outdated"  # ending of files whose scan can no longer be segmented
FOREIGN = "it is not a manifest of this bundle: move it away or choose another folder."


def settings_hash(model_dir: str | Path, settings: Mapping[str, Any]) -> str:
    """Returns a hash of everything that a mask depends on beside its scan: weights, fingerprint, settings and version.

    Args:
        model_dir: folder of `model.pt` and `fingerprint.json`.
        settings: all settings that change masks, of plain types.

    Raises:
        InputError: when one of the two files is missing.
    """
    digest = hashlib.sha256()
    for name in ("model.pt", "fingerprint.json"):
        path = Path(model_dir) / name
        if not path.is_file():
            raise InputError(f"{path}: there is no such file: point --model_dir at a folder that training wrote.")
        digest.update(path.read_bytes())
    digest.update(json.dumps([sifa.__version__, settings], sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def shard_name(shard: int, num_shards: int) -> str:
    """Returns the manifest's file name: `manifest.json`, or one of its own for each shard.

    Raises:
        InputError: when there is no such shard.
    """
    if num_shards < 1 or not 0 <= shard < num_shards:
        raise InputError(f"--shard {shard} of --num_shards {num_shards}: count shards from 0 to num_shards - 1.")
    return NAME if num_shards == 1 else f"manifest.shard-{shard}-of-{num_shards}.json"


class Manifest:
    """The cases of one run, written to disk after each change.

    Args:
        output_dir: folder of the manifest.
        settings: hash of the weights and settings of this run.
        shard: number of this process.
        num_shards: number of processes that share the folder.

    Raises:
        InputError: when the folder has a file of the manifest's name that is not a manifest.
    """

    def __init__(self, output_dir: str | Path, settings: str, shard: int = 0, num_shards: int = 1) -> None:
        self.output_dir = Path(output_dir)
        self.path = self.output_dir / shard_name(shard, num_shards)
        self.settings = settings
        self.is_shard = num_shards > 1
        self.cases = {case.input: case for case in read_cases(self.path)}

    def is_current(self, case_input: str, signature: str, extras: Collection[str] = ()) -> bool:
        """Returns whether an earlier run made the mask of this very scan with the same weights and settings.

        Args:
            case_input: the scan.
            signature: which changes when the scan does.
            extras: names of the writers of this run; the earlier run must have had them, too.
        """
        case = self.cases.get(case_input)
        return (
            case is not None
            and case.is_segmented
            and case.settings == self.settings
            and case.signature == signature
            and set(extras) <= set(case.extras or ())
            and all((self.output_dir / path).is_file() for path in case.files)
        )

    def set_aside(self, case_input: str) -> None:
        """Appends `.outdated` to the names of files that earlier runs made of a scan that can no longer be segmented.

        This way nobody takes the mask of an earlier state of the scan for the current one, and nothing is lost.
        """
        case = self.cases.get(case_input)
        for path in map(self.output_dir.joinpath, case.files if case else ()):
            if path.is_file():
                path.replace(path.with_name(f"{path.name}{OUTDATED}"))
                logger.warning("%s: of an earlier state of its scan; renamed with the ending %s", path, OUTDATED)

    def record(self, case: Case) -> None:
        """Adds or replaces a case, with the settings of this run, and writes the manifest."""
        self.cases[case.input] = replace(case, settings=self.settings)
        self.write()

    def keep_only(self, inputs: Collection[str]) -> None:
        """Removes the cases of all other scans; their masks stay where they are."""
        kept = {name: case for name, case in self.cases.items() if name in set(inputs)}
        if len(kept) < len(self.cases) or not self.path.is_file():
            self.cases = kept
            self.write()

    def content(self) -> dict[str, Any]:
        """Returns what the manifest's file holds."""
        return manifest_content(self.cases.values())

    def write(self) -> None:
        """Writes the manifest, whole or not at all.

        Raises:
            InputError: when it cannot be written.
        """
        write_manifest(self.path, self.content())


def read_cases(path: Path) -> list[Case]:
    """Returns the cases of a manifest; none where there is no file.

    Raises:
        InputError: when the file is not a manifest.
    """
    if not path.is_file():
        return []
    try:
        return [Case.from_json(entry) for entry in json.loads(path.read_text(encoding="utf-8"))["cases"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {FOREIGN}") from error


def manifest_content(cases: Collection[Case]) -> dict[str, Any]:
    """Returns what the file of a manifest with these cases holds, sorted by input."""
    return {
        "bundle_version": sifa.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "counts": count_statuses(cases),
        "cases": [case.to_json() for case in sorted(cases, key=lambda case: case.input)],
    }


def write_manifest(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a manifest, whole or not at all.

    Raises:
        InputError: when it cannot be written.
    """
    try:
        write_text(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise InputError(
            f"{path}: it cannot be written ({first_line(error)}): make room or choose another folder."
        ) from error
