"""`manifest.json` and its log: the cases of a run over a folder of scans, valid at any moment."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import sifa
from sifa.inference.case import Case
from sifa.inference.manifest_file import NAME, SHARD, CaseFile, manifest_content, shard_name
from sifa.inference.manifest_log import manifest_of
from sifa.inference.output_names import free_name
from sifa.inference.volumes_table import VolumesTable
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file
from sifa.utils.locks import FolderLock

logger = logging.getLogger(__name__)

LISTING_S = 1.0  # how long the list of other shards' manifests is used: a folder of many masks takes time to search


def settings_hash(model_dirs: Sequence[str | Path], settings: Mapping[str, Any]) -> str:
    """Returns a hash of everything that a mask depends on beside its scan: weights, fingerprint, settings and version.

    Args:
        model_dirs: folders of `model.pt` and `fingerprint.json`.
        settings: all settings that change masks, of plain types.

    Raises:
        InputError: when one of the files is missing.
    """
    digest = hashlib.sha256()
    for path in (Path(folder) / name for folder in model_dirs for name in ("model.pt", "fingerprint.json")):
        if not path.is_file():
            raise InputError(f"{path}: there is no such file: point --model_dir at a folder that training wrote.")
        digest.update(path.read_bytes())
    digest.update(json.dumps([sifa.__version__, settings], sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


class Manifest:
    """The cases of an output folder, each written to disk when its scan is finished.

    A finished scan is a line of the log. `fold` writes the manifest itself, at the end of a run and, where a run was
    killed, at the start of the next. Processes may share an output folder: each change is merged with what the others
    have written since.

    Args:
        output_dir: folder of the manifest.
        settings: hash of the weights and settings of this run.
        shard: number of this process.
        num_shards: number of processes that share the scans.
        dataset_dir: the folder of scans of this run, or the single scan; None: unknown.

    Raises:
        InputError: when the folder has a file of the manifest's name that is not a manifest, or it cannot be written.
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
        self.files: dict[Path, CaseFile] = {self.path: CaseFile(self.path)}  # this manifest and those of other shards
        self.volumes = VolumesTable(self.output_dir)
        self.listed_at = -math.inf  # time when the folder was searched for manifests of other shards
        self.refresh()
        if self.files[self.path].log.is_file():  # of a run that was killed
            self.fold()

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

    def _of_shards(self) -> Iterator[CaseFile]:
        """Yields all other manifests in the folder, the last name first; those that cannot be read are left out."""
        now = time.monotonic()
        if now - self.listed_at > LISTING_S:
            self.listed_at = now
            for path in map(manifest_of, self.output_dir.glob("manifest*.json*")):
                if path.name == NAME or SHARD.fullmatch(path.name):
                    self.files.setdefault(path, CaseFile(path))
        for path in sorted(self.files.keys() - {self.path}, reverse=True):
            with suppress(InputError):
                self.files[path].refresh()
                yield self.files[path]

    def is_elsewhere(self, case: Case) -> bool:
        """Returns whether a case is of a scan in another folder than this run's."""
        return case.folder not in (None, self.folder)

    def is_current(
        self, case_input: str, signature: str, extras: Collection[str] = (), mask: Path | None = None
    ) -> bool:
        """Returns whether an earlier run made the mask of this very scan with the same weights and settings.

        Args:
            case_input: the scan.
            signature: hash of its content.
            extras: names of the writers of this run; the earlier run must have had them, too.
            mask: file that its mask will have; None: any.
        """
        self.refresh()
        case = self.cases.get(case_input)
        return (
            case is not None
            and case.is_segmented
            and case.settings == self.settings
            and case.signature == signature
            and set(extras) <= set(case.extras or ())
            and (mask is None or case.output == self._below(mask))
            and all((self.output_dir / path).is_file() for path in case.files)
            and case.mask_hash in (None, self._hash_of(case))  # None: of a version that did not record it
        )

    def _below(self, path: Path) -> str:
        """Returns the path of an output as cases have it: relative to the output folder."""
        return os.path.relpath(path, self.output_dir)

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
            signature: hash of its content; files of a case with the same one stay, unless the mask will have another
                name. None: it can no longer be segmented.

        Returns:
            The new names, relative to the output folder.
        """
        case = self.of_scan(case_input)
        own = None if mask is None else self._below(mask)
        known = [*case.files] if case else []
        is_same = case is not None and case.signature == signature and case.output == (own or case.output)
        files = [] if is_same and signature is not None else known
        if own is not None and own not in known:
            files = [*files, own]
        renamed = []
        for path in map(self.output_dir.joinpath, dict.fromkeys(files)):
            if path.is_file():
                aside = free_name(path)
                path.replace(aside)
                renamed.append(self._below(aside))
                logger.warning(
                    "%s: it belongs to an earlier or an unknown scan of this name and is kept as %s", path, aside.name
                )
        return renamed

    def record(self, case: Case) -> None:
        """Adds or replaces a case, with the folder and settings of this run, and writes it to the log.

        A case of another scan whose mask had the same name is removed: its mask has been renamed.

        Raises:
            InputError: when it cannot be written.
        """
        with self.lock.hold(NAME):
            self.refresh()
            made = replace(case, settings=self.settings, folder=self.folder)
            if case.output is not None:
                made = replace(made, mask_hash=self._hash_of(case))
            self.files[self.path].append(made)

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
            if len(kept) < len(self.cases):
                self._write()  # with what the log has, which would bring cases back that are removed below
                self.files[self.path].replace(kept.values())
                self.files[self.path].write()

    def content(self) -> dict[str, Any]:
        """Returns what the manifest's file holds."""
        return manifest_content(self.cases.values())

    def fold(self) -> None:
        """Writes the manifest where there is a log or no manifest, and `volumes.csv`, except for a shard's.

        Each is written whole or not at all.

        Raises:
            InputError: when it cannot be written.
        """
        with self.lock.hold(NAME):
            self.refresh()
            self._write()
            if not self.is_shard:  # its table is written when shards are merged
                self.volumes.write(self.cases.values())

    def _write(self) -> None:
        if not self.files[self.path].is_written:
            self.files[self.path].write()


def _relative(folder: Path, output_dir: Path) -> str:
    """Returns the path of a folder of scans, or of the folder of a single scan, from the output folder."""
    folder = folder.absolute().parent if folder.is_file() else folder.absolute()
    try:
        return os.path.relpath(folder, output_dir.absolute())
    except ValueError:  # another drive of Windows
        return str(folder)
