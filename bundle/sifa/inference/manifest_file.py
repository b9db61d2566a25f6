"""The file of a manifest: its name, its content, and reading and writing it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import sifa
from sifa.inference.case import Case, count_statuses
from sifa.utils.errors import InputError, first_line
from sifa.utils.files import write_text

NAME = "manifest.json"
SHARD = re.compile(r"manifest\.shard-\d+-of-(\d+)\.json")  # see `shard_name`
FOREIGN = "it is not a manifest of this bundle: move it away or choose another folder."


def shard_name(shard: int, num_shards: int) -> str:
    """Returns the manifest's file name: `manifest.json`, or one of its own for each shard.

    Raises:
        InputError: when there is no such shard.
    """
    if num_shards < 1 or not 0 <= shard < num_shards:
        raise InputError(f"--shard {shard} of --num_shards {num_shards}: count shards from 0 to num_shards - 1.")
    return NAME if num_shards == 1 else f"manifest.shard-{shard}-of-{num_shards}.json"


class CaseFile:
    """The cases of a manifest's file, read again only where the file has changed.

    Args:
        path: the file, which need not exist.
        cases: to begin with.
    """

    def __init__(self, path: Path, cases: Collection[Case] = ()) -> None:
        self.path = path
        self.cases: dict[str, Case] = {case.input: case for case in cases}
        self.state: tuple[int, int] | None = None  # of the file that `cases` is the content of
        self.texts: dict[str, tuple[Case, str]] = {}  # JSON of the cases that were written last

    def refresh(self) -> None:
        """Reads the file again if it has changed; where there is none, the cases stay.

        Raises:
            InputError: when it is not a manifest.
        """
        state = file_state(self.path)
        if state not in (None, self.state):
            self.cases = {case.input: case for case in read_cases(self.path)}
            self.state = state

    def write(self) -> None:
        """Writes the file, whole or not at all.

        Raises:
            InputError: when it cannot be written.
        """
        self.texts = {name: self._text(self.cases[name]) for name in sorted(self.cases)}
        listed = ",".join(f"\n  {text}" for _, text in self.texts.values())
        frame = json.dumps({**_summary(self.cases.values()), "cases": []}, indent=1)
        text = frame.replace('"cases": []', f'"cases": [{listed}\n ]') if listed else frame
        try:
            write_text(self.path, f"{text}\n")
        except OSError as error:
            raise InputError(
                f"{self.path}: it cannot be written ({first_line(error)}): make room or choose another folder."
            ) from error
        self.state = file_state(self.path)

    def _text(self, case: Case) -> tuple[Case, str]:
        """Returns a case and its JSON, as it stands in the file but for the indentation of the first line.

        The text is made again only where the case is another object than at the last call: it is what takes the time
        when a manifest lists a thousand scans.
        """
        known = self.texts.get(case.input)
        if known is not None and known[0] is case:
            return known
        return case, json.dumps(case.to_json(), indent=1).replace("\n", "\n  ")


def file_state(path: Path) -> tuple[int, int] | None:
    """Returns a file's time in nanoseconds and its number, which change when it is replaced; None: it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


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
    return {**_summary(cases), "cases": [case.to_json() for case in sorted(cases, key=lambda case: case.input)]}


def _summary(cases: Collection[Case]) -> dict[str, Any]:
    return {
        "bundle_version": sifa.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "counts": count_statuses(cases),
    }
