"""Checks that the training scans of a domain are in the units of its modality, and names those that are not."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from sifa.fingerprint.modality import is_in_hu
from sifa.transforms.hounsfield import is_surely_hu, not_hu_reason
from sifa.utils.errors import InputError

NAMED = 3  # scans named in a message


class UnitCheck:
    """Collects what the values of each scan look like, and refuses those that contradict the modality.

    Args:
        domain: source or target.
        modality: of the domain.
        in_hu: whether its scans share one window in HU; otherwise each scan sets its own.
    """

    def __init__(self, domain: str, modality: str, in_hu: bool) -> None:
        self.domain = domain
        self.modality = modality
        self.in_hu = in_hu
        self.arbitrary = not is_in_hu(modality)
        self.found: dict[str, str] = {}  # reasons by scan; empty where the scan is as it should be

    def add(self, path: str, volume: npt.NDArray[Any]) -> None:
        """Judges the values of a scan."""
        if self.in_hu:
            self.found[path] = not_hu_reason(volume)
        else:
            self.found[path] = "its values are HU" if self.arbitrary and is_surely_hu(volume) else ""

    def finish(self) -> None:
        """Ends the check.

        Raises:
            InputError: when a scan is in other units than the modality's; it names the scans.
        """
        wrong = {path: reason for path, reason in self.found.items() if reason}
        if not wrong:
            return
        first, reason = next(iter(wrong.items()))
        right = len(self.found) - len(wrong)
        others = f"; the other {right} of {self.domain}.training differ" if right else ""
        if len(wrong) > 1:
            more = ", ".join([*wrong][1 : NAMED + 1]) + (", ..." if len(wrong) > NAMED + 1 else "")
            others = f"; so it is with {len(wrong) - 1} more of {len(self.found)}: {more}"
        advice = (
            "convert it to HU (slope x stored value + intercept), or give its modality arbitrary units with "
            f"--intensity#{self.modality}#mode percentiles"
            if self.in_hu
            else "write the modality CT, or exchange source and target"
        )
        raise InputError(f"{first}: {reason}, but {self.domain}.modality is {self.modality}{others}: {advice}.")
