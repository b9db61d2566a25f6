"""`manifest.json`: what a run over a folder did to each scan, valid at any moment, and what is left to do."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import sifa
from sifa.utils.errors import InputError, first_line
from sifa.utils.files import write_text

logger = logging.getLogger(__name__)

STATUSES = ("ok", "warning", "failed", "skipped")
NAME = "manifest.json"
OUTDATED = ".outdated"  # ending of files whose scan can no longer be segmented
FOREIGN = "it is not a manifest of this bundle: move it away or choose another folder."
OUTPUTS = ("output", "preview", "dicom_seg", "uncertainty")  # keys of a case that name a file


def settings_hash(model_dir: str | Path, settings: Mapping[str, Any]) -> str:
    """Returns what identifies the maker of a mask: a hash of weights, fingerprint, settings and package version.

    Args:
        model_dir: folder of `model.pt` and `fingerprint.json`.
        settings: whatever changes masks, of plain types.
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
    """The cases of one run, on disk after each change.

    A case is a dictionary: `input` and `output` (paths below the folder of scans and the output folder), `status` (ok,
    warning, failed, skipped), `message`, `seconds`, `volumes_ml` and `quality` by structure, `flags` by structure,
    `preview`, `dicom_seg`, `uncertainty`, `model` (its name), and what decides whether it is still current: `settings`,
    `signature` and `extras`.

    Args:
        output_dir: folder of the manifest.
        settings: hash of the weights and settings of this run.
        shard: number of this process.
        num_shards: number of processes that share the folder.
    """

    def __init__(self, output_dir: str | Path, settings: str, shard: int = 0, num_shards: int = 1) -> None:
        self.output_dir = Path(output_dir)
        self.path = self.output_dir / shard_name(shard, num_shards)
        self.settings = settings
        self.is_shard = num_shards > 1
        self.cases: dict[str, dict[str, Any]] = {case["input"]: case for case in read_cases(self.path)}

    def is_current(self, case_input: str, signature: str, extras: Collection[str] = ()) -> bool:
        """Tells whether an earlier run made the mask of this very scan with the same weights and settings.

        Args:
            case_input: the scan.
            signature: which changes when the scan does.
            extras: names of what is wanted beside the mask; the earlier run has to have been asked for them, too.
        """
        case = self.cases.get(case_input)
        return (
            case is not None
            and case["status"] in ("ok", "warning")
            and case.get("settings") == self.settings
            and case.get("signature") == signature
            and set(extras) <= set(case.get("extras", ()))
            and all((self.output_dir / case[key]).is_file() for key in OUTPUTS if case.get(key))
        )

    def set_aside(self, case_input: str) -> None:
        """Renames what earlier runs made of a scan that can no longer be segmented: to its name and `.outdated`.

        So nobody takes the mask of an older state of the scan for a current one, and nothing is lost.
        """
        for key in OUTPUTS:
            earlier = self.cases.get(case_input, {}).get(key)
            path = self.output_dir / str(earlier)
            if earlier and path.is_file():
                path.replace(path.with_name(f"{path.name}{OUTDATED}"))
                logger.warning("%s: of an earlier state of its scan; renamed with the ending %s", path, OUTDATED)

    def record(self, case: Mapping[str, Any]) -> None:
        """Adds or replaces a case and writes the manifest, whole or not at all."""
        self.cases[case["input"]] = {**case, "settings": self.settings}
        write_manifest(self.path, list(self.cases.values()))

    def keep_only(self, inputs: Collection[str]) -> None:
        """Forgets cases of earlier runs whose scans are gone; their masks stay where they are."""
        kept = {name: case for name, case in self.cases.items() if name in set(inputs)}
        if len(kept) < len(self.cases) or not self.path.is_file():
            self.cases = kept
            self.content()

    def content(self) -> dict[str, Any]:
        """Writes the manifest once more and returns what it holds."""
        return write_manifest(self.path, list(self.cases.values()))


def count_statuses(cases: Collection[Mapping[str, Any]]) -> dict[str, int]:
    """Returns how many of some cases have each status."""
    found = Counter(case["status"] for case in cases)
    return {status: found[status] for status in STATUSES}


def read_cases(path: Path) -> list[dict[str, Any]]:
    """Returns the cases of a manifest; none where there is no file.

    Raises:
        InputError: when the file is not a manifest.
    """
    if not path.is_file():
        return []
    try:
        cases = list(json.loads(path.read_text(encoding="utf-8"))["cases"])
        whole = all(_is_case(case) for case in cases)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {FOREIGN}") from error
    if not whole:
        raise InputError(f"{path}: {FOREIGN}")
    return cases


def _is_case(case: Mapping[str, Any]) -> bool:
    """Tells whether a case has what reading it takes."""
    made = case["status"] in ("ok", "warning")
    named = [case.get(key) for key in OUTPUTS]
    return (
        isinstance(case["input"], str)
        and case["status"] in STATUSES
        and all(name is None or isinstance(name, str) for name in named)
        and (not made or isinstance(case["output"], str))
        and isinstance(case.get("extras", []), list)
    )


def write_manifest(path: Path, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Writes a manifest, under a temporary name first, and returns its content."""
    content = {
        "bundle_version": sifa.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "counts": count_statuses(cases),
        "cases": sorted(cases, key=lambda case: str(case["input"])),
    }
    try:
        write_text(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise InputError(
            f"{path}: it cannot be written ({first_line(error)}): make room or choose another folder."
        ) from error
    return content
