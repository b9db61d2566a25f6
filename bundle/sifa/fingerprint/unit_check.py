"""Checks that the training scans of a domain are in the units of its modality, and names those that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from sifa.fingerprint.modality import may_be_in_hu, shares_hu_window
from sifa.io.scan_reader import load_image
from sifa.transforms.hounsfield import is_surely_hu, not_hu_reason
from sifa.utils.errors import InputError

NAMED = 3  # scans named in a message


class UnitCheck:
    """Collects what the values of each scan look like, and refuses those that contradict the modality.

    Args:
        domain: source or target.
        modality: of the domain.
        in_hu: whether its scans share one window in HU.
        rule: key of its intensity rule, for the message.
    """

    def __init__(self, domain: str, modality: str, in_hu: bool, rule: str = "CT") -> None:
        self.domain = domain
        self.modality = modality
        self.in_hu = in_hu
        self.rule = rule
        self.arbitrary = not may_be_in_hu(modality)
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
            others = f"; the same applies to {len(wrong) - 1} more of {len(self.found)} scans: {more}"
        advice = (
            "convert it to HU (slope x stored value + intercept), set the rule of this modality to arbitrary units "
            f"(--intensity#{self.rule}#mode percentiles), or, if its values are HU, give --check_units False"
            if self.in_hu
            else "write the modality CT, or exchange source and target"
        )
        raise InputError(f"{first}: {reason}, but {self.domain}.modality is {self.modality}{others}: {advice}.")


def check_units(items: Sequence[Mapping[str, str]], modality: str, intensity: Mapping[str, Any], domain: str) -> None:
    """Checks scans that a network is adapted to without a new fingerprint.

    Args:
        items: `{"image": path}`.
        modality: of the network's training.
        intensity: the fingerprint's entry of the domain.
        domain: source or target, for the message.

    Raises:
        InputError: when a scan cannot be read, or is in other units.
    """
    units = UnitCheck(domain, modality, in_hu=shares_hu_window(modality, intensity))
    for item in items:
        units.add(item["image"], load_image(item["image"]).numpy())
    units.finish()
