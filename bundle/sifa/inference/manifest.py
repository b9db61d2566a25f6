"""`manifest.json`: the cases of a run over a folder of scans, valid at any moment."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import sifa
from sifa.inference.case import Case, count_statuses
from sifa.inference.find_scans import OUTDATED
from sifa.utils.errors import InputError, first_line
from sifa.utils.files import hash_of_file, write_text
from sifa.utils.locks import FolderLock

logger = logging.getLogger(__name__)

NAME = "manifest.json"
SHARD = re.compile(r"manifest\.shard-\d+-of-(\d+)\.json")  # see `shard_name`
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


class _CaseFile:
    """The cases of a manifest's file, read again only where the file has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cases: dict[str, Case] = {}
        self.state: tuple[int, int] | None = None  # of the file that `cases` is the content of

    def refresh(self) -> None:
        """Reads the file again if it has changed; where there is none, the cases stay.

        Raises:
            InputError: when it is not a manifest.
        """
        state = file_state(self.path)
        if state not in (None, self.state):
            self.cases = {case.input: case for case in read_cases(self.path)}
            self.state = state


def file_state(path: Path) -> tuple[int, int] | None:
    """Returns a file's time in nanoseconds and its number, which change when it is replaced; None: it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


class Manifest:
    """The cases of an output folder, written to disk after each change.

    Processes may share an output folder: each change is merged with what the others have written since.

    Args:
        output_dir: folder of the manifest.
        settings: hash of the weights and settings of this run.
        shard: number of this process.
        num_shards: number of processes that share the scans.
        dataset_dir: the folder of scans of this run, or the single scan; None: unknown.

    Raises:
        InputError: when the folder has a file of the manifest's name that is not a manifest.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: str,
        shard: int = 0,
        num_shards: int = 1,
        dataset_dir: str | Path | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.path = self.output_dir / shard_name(shard, num_shards)
        self.settings = settings
        self.is_shard = num_shards > 1
        self.folder = None if dataset_dir is None else _relative(Path(dataset_dir), self.output_dir)
        self.lock = FolderLock(self.output_dir)
        self.files: dict[Path, _CaseFile] = {self.path: _CaseFile(self.path)}  # this manifest and those of other shards
        self.refresh()

    @property
    def cases(self) -> dict[str, Case]:
        """The cases by scan, as they were when the manifest was last read or written."""
        return self.files[self.path].cases

    def refresh(self) -> None:
        """Reads the manifest again where another process has changed it.

        Raises:
            InputError: when it is not a manifest.
        """
        self.files[self.path].refresh()

    def of_scan(self, case_input: str) -> Case | None:
        """Returns the case of a scan, in this manifest or in that of another shard of the same folder."""
        self.refresh()
        found = self.cases.get(case_input)
        return found or next((file.cases[case_input] for file in self._of_shards() if case_input in file.cases), None)

    def _of_shards(self) -> Iterator[_CaseFile]:
        """Yields all other manifests in the folder, the last name first; those that cannot be read are left out."""
        for path in sorted(self.output_dir.glob("manifest*.json"), reverse=True):
            if path != self.path and (path.name == NAME or SHARD.fullmatch(path.name)):
                file = self.files.setdefault(path, _CaseFile(path))
                with suppress(InputError):
                    file.refresh()
                    yield file

    def is_elsewhere(self, case: Case) -> bool:
        """Returns whether a case is of a scan in another folder than this run's."""
        return case.folder not in (None, self.folder)

    def is_current(self, case_input: str, signature: str, extras: Collection[str] = ()) -> bool:
        """Returns whether an earlier run made the mask of this very scan with the same weights and settings.

        Args:
            case_input: the scan.
            signature: hash of its content.
            extras: names of the writers of this run; the earlier run must have had them, too.
        """
        self.refresh()
        case = self.cases.get(case_input)
        return (
            case is not None
            and case.is_segmented
            and case.settings == self.settings
            and case.signature == signature
            and set(extras) <= set(case.extras or ())
            and all((self.output_dir / path).is_file() for path in case.files)
            and case.mask_hash in (None, self._hash_of(case))  # None: of a version that did not record it
        )

    def _hash_of(self, case: Case) -> str | None:
        """Returns a hash of a mask as it is now; None where there is none."""
        try:
            return hash_of_file(self.output_dir / str(case.output))[:32]
        except OSError:
            return None

    def set_aside(self, case_input: str, mask: Path | None = None, signature: str | None = None) -> list[str]:
        """Renames outputs of an earlier scan with this name, so that they are neither overwritten nor reused.

        Args:
            case_input: the scan.
            mask: file that its mask will have; a file of this name that no manifest lists is renamed, too.
            signature: hash of its content; files of a case with the same one stay. None: it can no longer be segmented.

        Returns:
            The new names, relative to the output folder.
        """
        case = self.of_scan(case_input)
        known = [*case.files] if case else []
        files = [] if case and signature is not None and case.signature == signature else known
        if mask is not None and (own := os.path.relpath(mask, self.output_dir)) not in known:
            files = [*files, own]
        renamed = []
        for path in map(self.output_dir.joinpath, dict.fromkeys(files)):
            if path.is_file():
                aside = _free_name(path)
                path.replace(aside)
                renamed.append(os.path.relpath(aside, self.output_dir))
                logger.warning(
                    "%s: it belongs to an earlier or an unknown scan of this name and is kept as %s", path, aside.name
                )
        return renamed

    def record(self, case: Case) -> None:
        """Adds or replaces a case, with the folder and settings of this run, and writes the manifest.

        A case of another scan whose mask had the same name is removed: its mask has been renamed.
        """
        with self.lock.hold(NAME):
            self.refresh()
            others = {name: one for name, one in self.cases.items() if case.output is None or one.output != case.output}
            made = replace(case, settings=self.settings, folder=self.folder)
            if case.output is not None:
                made = replace(made, mask_hash=self._hash_of(case))
            self.files[self.path].cases = {**others, case.input: made}
            self.write()

    def keep_only(self, inputs: Collection[str], known: Collection[str] | None = None) -> None:
        """Removes the cases of all other scans of this run's folder; their masks stay where they are.

        Args:
            inputs: the scans of the folder.
            known: scans that the manifest had when the run started; others, which another process has added since,
                stay. None: all.
        """
        with self.lock.hold(NAME):
            self.refresh()
            names = set(inputs)
            kept = {
                name: case
                for name, case in self.cases.items()
                if name in names or self.is_elsewhere(case) or (known is not None and name not in known)
            }
            if len(kept) < len(self.cases) or not self.path.is_file():
                self.files[self.path].cases = kept
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
        self.files[self.path].state = file_state(self.path)


def _relative(folder: Path, output_dir: Path) -> str:
    """Returns the path of a folder of scans, or of the folder of a single scan, from the output folder."""
    folder = folder.absolute().parent if folder.is_file() else folder.absolute()
    try:
        return os.path.relpath(folder, output_dir.absolute())
    except ValueError:  # another drive of Windows
        return str(folder)


def _free_name(path: Path) -> Path:
    """Returns the first name of `.outdated`, `.outdated.2`, ... that is free."""
    number, aside = 1, path.with_name(f"{path.name}{OUTDATED}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}{OUTDATED}.{number}")
    return aside


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
