"""The files of a manifest: their names, their content, and reading and writing them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import sifa
from sifa.inference.case import Case, count_statuses
from sifa.inference.manifest_log import append_entry, log_of, read_entries
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
    """The cases of a manifest's file and its log, read again only where they have changed.

    Args:
        path: the manifest's file, which need not exist.
        cases: to begin with.
    """

    def __init__(self, path: Path, cases: Collection[Case] = ()) -> None:
        self.path = path
        self.log = log_of(path)
        self.state: tuple[int, int] | None = None  # of the file that was read or written last
        self.position = 0  # after the last entry of the log that was read or written
        self.replace(cases)

    def replace(self, cases: Collection[Case]) -> None:
        """Replaces all cases in memory."""
        self.cases: dict[str, Case] = {case.input: case for case in cases}
        self._by_output = {case.output: case.input for case in cases if case.output is not None}

    def refresh(self) -> None:
        """Reads what has changed; where there are no files, the cases stay.

        Raises:
            InputError: when they are not of a manifest.
        """
        state = file_state(self.path)
        if state not in (None, self.state):
            self.replace(_cases_of_file(self.path))
            self.state, self.position = state, 0
        with _naming(self.log):
            entries, self.position = read_entries(self.log, self.position)
            for entry in entries:
                self._add(Case.from_json(entry))

    def append(self, case: Case) -> None:
        """Adds or replaces a case, in memory and in the log.

        A case of another scan whose mask had the same name is removed: its mask has been renamed.

        Raises:
            InputError: when the log cannot be written.
        """
        try:
            self.position = append_entry(self.log, case.to_json(), self.position)
        except OSError as error:
            raise _unwritable(self.log, error) from error
        self._add(case)

    def _add(self, case: Case) -> None:
        earlier = self.cases.get(case.input)
        if earlier is not None and earlier.output is not None:
            self._by_output.pop(earlier.output, None)
        if case.output is not None:
            other = self._by_output.get(case.output, case.input)
            if other != case.input:
                del self.cases[other]
            self._by_output[case.output] = case.input
        self.cases[case.input] = case

    @property
    def is_written(self) -> bool:
        """Whether the manifest's file exists and has all cases, so that there is no log."""
        return self.path.is_file() and not self.log.is_file()

    def write(self) -> None:
        """Writes the manifest's file, whole or not at all, and removes the log, whose cases it has.

        A process that is killed in between leaves both. The log changes nothing when it is read again: each of its
        cases is replaced by itself.

        Raises:
            InputError: when it cannot be written.
        """
        try:
            write_text(self.path, json.dumps(manifest_content(self.cases.values()), indent=1) + "\n")
            self.state = file_state(self.path)
            self.log.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.position = 0


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: it cannot be written ({first_line(error)}): make room or choose another folder.")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what reading something else as a manifest raises into one sentence.

    Raises:
        InputError: when the block raises such an error.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {FOREIGN}") from error


def file_state(path: Path) -> tuple[int, int] | None:
    """Returns a file's time in nanoseconds and its number, which change when it is replaced; None: it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def read_cases(path: Path) -> list[Case]:
    """Returns the cases of a manifest and its log; none where there are no files.

    Raises:
        InputError: when the files are not of a manifest.
    """
    file = CaseFile(path)
    file.refresh()
    return list(file.cases.values())


def _cases_of_file(path: Path) -> list[Case]:
    with _naming(path):
        return [Case.from_json(entry) for entry in json.loads(path.read_text(encoding="utf-8"))["cases"]]


def manifest_content(cases: Collection[Case]) -> dict[str, Any]:
    """Returns what the file of a manifest with these cases holds, sorted by input."""
    return {
        "bundle_version": sifa.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "counts": count_statuses(cases),
        "cases": [case.to_json() for case in sorted(cases, key=lambda case: case.input)],
    }
