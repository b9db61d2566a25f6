"""Poor fits of settings to data: each is named, and settings that follow the plan have none."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from planning_cases import SETTINGS, STATISTICS, abdomen
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.planning.estimate import GIB
from sifa.planning.plan import view_of
from sifa.planning.poor_fits import poor_fits
from sifa.planning.report import memory_warning, report_plan
from sifa.planning.slices import Pixels

PIXELS = Pixels((128, 128), 2.75)


def found(
    fingerprint: Fingerprint | None = None,
    pixels: Pixels = PIXELS,
    adapts: bool = True,
    **changes: Any,
) -> list[str]:
    fingerprint = fingerprint or abdomen()
    return poor_fits(view_of(fingerprint, adapts), pixels, {**SETTINGS, **changes}, fingerprint)


def bodies(source: float, target: float) -> Fingerprint:
    """Returns the fingerprint of bodies of other sizes in the plane."""
    statistics = replace(
        STATISTICS,
        source=replace(STATISTICS.source, median_body=(source, source, 273.0)),
        target=replace(STATISTICS.target, median_body=(target, target, 456.0)),
    )
    return abdomen(statistics=statistics)


def test_the_settings_of_a_plan_fit() -> None:
    assert found() == []
    assert found(pixels=Pixels((256, 256), 1.5)) == []
    assert found(pixels=Pixels((64, 64), 5.5)) == []  # coarse, and still wider than a latent
    assert found(adapts=False, match_intensity=None, match_field_of_view=False) == []


def test_a_structure_narrower_than_a_latent_is_named() -> None:
    (warning,) = found(pixels=Pixels((64, 64), 8.0), fingerprint=bodies(500, 500))

    assert warning.startswith("right, 61 mm wide, is narrower than a latent of E, 8 pixels of 8 mm")


def test_slices_that_are_mostly_empty_are_named() -> None:
    (warning,) = found(pixels=Pixels((256, 256), 2.75), fingerprint=bodies(310, 320))

    assert warning == "slices show 704 x 704 mm, the body takes 320 x 320 mm of them: give a smaller pixel_spacing."


def test_bodies_of_different_size_are_named_unless_slices_show_the_smaller_one() -> None:
    (warning,) = found(pixels=Pixels((128, 128), 4.0), fingerprint=bodies(310, 510))

    assert warning.startswith("the body is 310 mm wide along rows of source scans and 510 mm of target scans")
    assert found(pixels=Pixels((128, 128), 2.5), fingerprint=bodies(310, 510)) == []


def test_longer_target_scans_without_a_matched_field_of_view_are_named() -> None:
    (warning,) = found(match_field_of_view=False)
    assert "target scans are 456 mm long and source scans 273 mm" in warning
    assert "set match_field_of_view" in warning

    settings = {name: value for name, value in SETTINGS.items() if name != "match_field_of_view"}
    (warning,) = poor_fits(view_of(abdomen(), True), PIXELS, settings, abdomen())
    assert "add recommended.yaml" in warning


def test_intensities_that_could_be_matched_or_should_not_be_are_named() -> None:
    (warning,) = found(match_intensity=None)
    assert "--match_intensity \"{'source': [-0.95, 1], 'target': [-0.95, 0.63]}\"" in warning

    bright = replace(STATISTICS, target=replace(STATISTICS.target, bright_share=0.2))
    (warning,) = found(abdomen(statistics=bright))
    assert "match_intensity leaves out what is above 200 HU, 20 % of the target's tissue" in warning
    assert found(abdomen(statistics=bright), match_intensity=None) == []


def test_too_little_memory_is_named_before_any_volume_is_read() -> None:
    view = view_of(abdomen(), True)

    def warning(free: float | None, pixels: Pixels = PIXELS, width: float = 0.25, rate: float = 1.0) -> str:
        limit = None if free is None else int(free * GIB)
        return memory_warning(view, pixels, SETTINGS, width, "cpu", rate, limit)

    assert warning(16) == warning(None) == ""
    assert "smaller batch_size" in warning(1)
    large = Pixels((1024, 1024), 0.35)  # 564 slices of 5 bytes a pixel, 2,627 of 4
    assert "13.0 of it for slices" in warning(8, large, 0.01)
    assert "give a cache_dir" in warning(8, large, 0.01)
    assert warning(8, large, 0.01, rate=0.1) == ""


def test_the_log_of_a_training_lists_what_differs_from_the_plan(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sifa")
    report_plan(abdomen(), SETTINGS, "cpu")
    assert caplog.messages == ["plan: slices, epochs and matching are what the data call for"]
    caplog.clear()

    small = abdomen(slice_size=(64, 64), spacing=(5.5, 5.5, 0.0))
    report_plan(small, {**SETTINGS, "epochs": 12, "match_intensity": None}, "cpu")

    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert [line.split(" ")[1] for line in lines] == ["slice_size", "pixel_spacing", "epochs", "match_intensity"]
    assert lines[0].startswith("plan: slice_size is [64, 64], the data call for [128, 128]: right, the narrowest")
    assert [record.getMessage()[:22] for record in caplog.records if record.levelno == logging.WARNING] == [
        "match_intensity is off"
    ]


def test_a_fingerprint_without_statistics_is_not_compared(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sifa")
    report_plan(abdomen(statistics=None), SETTINGS, "cpu")
    assert caplog.messages == []
