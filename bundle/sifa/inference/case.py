"""A case: what a run did to one scan, as an entry of the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

FILES = ("output", "preview", "uncertainty", "probabilities", "dicom_seg", "rtstruct")  # entries that name a file
STATUSES = ("ok", "flagged", "warning", "failed", "skipped")
SEGMENTED = ("ok", "flagged", "warning")


@dataclass(frozen=True)
class Case:
    """What a run did to one scan.

    All paths are relative: `input` to the folder of scans, the others to the output folder. What only a segmented scan
    has is None for the others.

    The status is `warning` where something about the scan or its files is unusual, as `message` says, and `flagged`
    where only a structure of the mask is, as `flags` says.
    """

    input: str
    status: str  # one of STATUSES
    output: str | None = None  # the mask
    message: str = ""  # the reason or the warnings
    seconds: float = 0.0
    volumes_ml: dict[str, float] | None = None  # by structure
    flags: dict[str, list[str]] | None = None  # by structure, of those that have any
    quality: dict[str, dict[str, Any]] | None = None  # by structure; see `sifa.inference.quality.measure`
    preview: str | None = None
    uncertainty: str | None = None
    probabilities: str | None = None
    dicom_seg: str | None = None
    rtstruct: str | None = None
    model: str | None = None  # its name
    folder: str | None = None  # of scans that `input` is relative to
    signature: str | None = None  # hash of the content of the scan's files
    mask_hash: str | None = None  # of the mask's file, when it was written
    earlier: list[str] | None = None  # files of an earlier scan of this name, which were kept under other names
    extras: list[str] | None = None  # names of the writers that the run had
    settings: str | None = None  # hash of the weights and settings that the mask was made with

    @property
    def is_segmented(self) -> bool:
        """Whether the scan has a mask."""
        return self.status in SEGMENTED

    @property
    def files(self) -> Iterator[str]:
        """Paths of all files that were made of the scan."""
        yield from (path for path in (getattr(self, name) for name in FILES) if path)

    def to_json(self) -> dict[str, Any]:
        """Returns the case as the manifest has it: without entries that are None, but for `output`."""
        return {name: value for name, value in vars(self).items() if value is not None or name == "output"}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Case:
        """Returns the case of an entry of a manifest; entries that this version does not know are left out.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: when it is not such an entry.
        """
        case = cls(**{field.name: entry[field.name] for field in fields(cls) if field.name in entry})
        paths = [getattr(case, name) for name in FILES]
        whole = isinstance(case.input, str) and case.status in STATUSES and (case.output or not case.is_segmented)
        if not whole or not all(path is None or isinstance(path, str) for path in paths):
            raise ValueError(f"{entry} is not an entry of a manifest.")
        if not all(isinstance(names or [], list) for names in (case.extras, case.earlier)):
            raise TypeError("extras or earlier is not a list.")
        return case


def count_statuses(cases: Collection[Case]) -> dict[str, int]:
    """Returns how many of some cases have each status."""
    found = Counter(case.status for case in cases)
    return {status: found[status] for status in STATUSES}
