"""The modality of a domain: known names give a rule, others are asked for, and the values must agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import Array, refusal
from hostile import ct
from sifa.fingerprint.modality import canonical_modality, is_in_hu, rule_name
from sifa.fingerprint.unit_check import UnitCheck

RULES: Mapping[str, Mapping[str, Any]] = {"CT": {"mode": "window"}, "default": {"mode": "percentiles"}}
MR = np.random.default_rng(0).integers(0, 900, (20, 20, 20))


def rule(name: str, rules: Mapping[str, Mapping[str, Any]] = RULES) -> Mapping[str, Any]:
    return rules[rule_name(name, rules, Path("dataset.json"))]


@pytest.mark.parametrize("name", ["CT", "ct", "CTA", "Ct", "contrast-enhanced CT", "CECT", "CT (portal venous)"])
def test_ct_in_any_spelling_has_the_window_of_ct(name: str) -> None:
    assert rule(name)["mode"] == "window"
    assert is_in_hu(name)


@pytest.mark.parametrize("name", ["MR", "mri", "T1", "T2*", "T2-weighted MR", "FLAIR", "bSSFP", "CBCT", "PET", "US"])
def test_modalities_of_arbitrary_units_are_normalized_volume_by_volume(name: str) -> None:
    assert rule(name)["mode"] == "percentiles"
    assert not is_in_hu(name)


@pytest.mark.parametrize("name", ["PET/CT", "cone beam CT", "X", "", "radiology"])
def test_names_that_are_unknown_or_mix_both_kinds_are_asked_for(name: str) -> None:
    message = refusal(lambda: rule(name))
    assert message.startswith(f"dataset.json: the modality {name!r} is not known: write CT")


def test_a_rule_of_ones_own_is_found_in_any_case() -> None:
    own = {**RULES, "OCT": {"mode": "window", "own": True}}
    assert rule("oct", own) is own["OCT"]


def test_known_names_have_one_spelling() -> None:
    assert [canonical_modality(name) for name in ("ct", " Mri ", "my own")] == ["CT", "MRI", "my own"]


def verdict(domain: str, modality: str, *volumes: Array) -> str:
    check = UnitCheck(domain, modality, in_hu=is_in_hu(modality))
    for number, volume in enumerate(volumes):
        check.add(f"{number}.nii", volume)
    return refusal(check.finish)


def test_scans_in_the_units_of_their_modality_pass() -> None:
    for modality, volumes in (("CT", (ct(), np.clip(ct(), -125, 275))), ("MR", (MR, MR - 300, MR / 500))):
        check = UnitCheck("source", modality, in_hu=is_in_hu(modality))
        for volume in volumes:
            check.add("scan", volume)
        check.finish()


def test_the_scan_that_differs_from_the_others_is_named() -> None:
    message = verdict("target", "CT", ct(), ct() + 1024, ct())
    assert message.startswith("1.nii: ")
    assert "CT plus about 1000" in message
    assert "the other 2 of target.training differ" in message


@pytest.mark.parametrize("volume", [ct() + 1024, np.clip(ct() / 4 + 60, 0, 255), ct() / 2000 + 0.5, MR])
def test_scans_that_are_all_in_other_units_are_refused(volume: Array) -> None:
    message = verdict("target", "CT", volume, volume, volume)
    assert message.startswith("0.nii: ")
    assert "the same applies to 2 more of 3 scans" in message
    assert "--intensity#CT#mode percentiles" in message


def test_ct_in_the_place_of_mr_is_noticed() -> None:
    assert "exchange source and target" in verdict("source", "MR", ct())


def test_cone_beam_ct_may_be_in_hu_or_not() -> None:
    check = UnitCheck("target", "CBCT", in_hu=False)
    check.add("hu.nii", ct())
    check.add("arbitrary.nii", MR)
    check.finish()


def test_the_advice_names_the_rule_that_is_used() -> None:
    check = UnitCheck("target", "CTA", in_hu=True, rule="CT")
    check.add("scan.nii", ct() + 1024)
    assert "(--intensity#CT#mode percentiles)" in refusal(check.finish)
