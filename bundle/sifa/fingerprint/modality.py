"""The modality of a domain, as `dataset.json` names it, and the intensity rule that follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sifa.utils.errors import InputError

# Words of modality names. CT is calibrated in HU; the values of the others are arbitrary.
HU = {"CT", "CTA", "CCTA", "CTPA", "CECT", "NCCT", "LDCT", "HRCT", "MDCT", "MSCT", "CTAC"}
ARBITRARY = {
    *("MR", "MRI", "MRA", "CMR", "FMRI", "T1", "T1W", "T1WI", "T1C", "T1CE", "T1GD", "T2", "T2W", "T2WI", "T2STAR"),
    *("FLAIR", "PD", "PDW", "DWI", "ADC", "SWI", "STIR", "DIXON", "BSSFP", "SSFP", "CINE", "LGE", "DCE", "FFE", "TSE"),
    *("VIBE", "CBCT", "MICROCT", "MICRO", "CONE", "PET", "PT", "SPECT", "NM", "US", "XA", "MVCT"),
}
MAY_BE_HU = {"CBCT", "MICROCT", "MICRO", "CONE", "MVCT"}  # of those in arbitrary units
DEFAULT = "default"


def canonical_modality(name: str) -> str:
    """Returns the usual spelling of a known modality, such as `CT` for `ct`; another name as it is."""
    upper = name.strip().upper()
    return upper if upper in HU | ARBITRARY else name.strip()


def is_in_hu(name: str) -> bool:
    """Returns whether scans of a modality are calibrated in HU, by its name."""
    return _kinds(name) == (True, False)


def _kinds(name: str) -> tuple[bool, bool]:
    """Returns whether a name holds words of modalities in HU, and of modalities in arbitrary units."""
    words = _words(name)
    return bool(words & HU), bool(words & ARBITRARY)


def _words(name: str) -> set[str]:
    return set(re.split(r"[^A-Z0-9]+", name.upper().replace("T2*", "T2STAR")))


def may_be_in_hu(name: str) -> bool:
    """Returns whether scans of a modality may be in HU, by its name, as those of some cone-beam CT are."""
    return is_in_hu(name) or bool(_words(name) & MAY_BE_HU)


def shares_hu_window(name: str, intensity: Mapping[str, Any]) -> bool:
    """Returns whether all scans of a domain share one window in HU, so that their units matter.

    Args:
        name: its modality.
        intensity: its intensity rule, or the fingerprint's entry of it.
    """
    return intensity["mode"] == "window" and is_in_hu(name)


def rule_name(name: str, rules: Mapping[str, Mapping[str, Any]], place: Path | str) -> str:
    """Returns which intensity rule a modality has.

    Args:
        name: the modality, in any case: a key of `rules`, or words of which one is known (`CTA`, `T2-weighted MRI`).
        rules: the rules by modality; `CT` is that of all CT in HU, `default` that of all arbitrary units.
        place: where the modality is written, for the message.

    Raises:
        InputError: when the modality is unknown, or mixes both kinds, as PET/CT does.
    """
    named = {key.upper(): key for key in rules if key != DEFAULT}
    upper = name.strip().upper()
    if upper in named:
        return named[upper]
    hu, arbitrary = _kinds(name)
    if hu == arbitrary:
        raise InputError(
            f"{place}: the modality {name!r} is not known: write CT for scans in HU, or MR for arbitrary units, in "
            "which each scan is normalized by its own percentiles."
        )
    return "CT" if hu and "CT" in rules else DEFAULT
