"""The benchmark of stages: what a clock counts for which stage, and that every stage of a scan has its time."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import read_json
from conftest import run_script
from stage_clock import StageClock


def test_a_stage_counts_without_those_that_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])

    def spend(seconds: float) -> None:
        now[0] += seconds

    place = SimpleNamespace(inner=lambda: spend(5))

    def outer() -> None:
        spend(1)
        place.inner()
        spend(2)

    place.outer = outer
    inner = place.inner
    clock = StageClock()
    with clock.watching([(place, "inner", "inside"), (place, "outer", "around")]), clock.stage("other"):
        spend(10)
        place.outer()
        place.inner()
    assert dict(clock.seconds) == {"other": 10, "around": 3, "inside": 10}
    assert place.inner is inner  # as it was before
    assert place.outer is outer


def test_a_stage_that_fails_counts_as_well() -> None:
    clock = StageClock()
    with pytest.raises(ZeroDivisionError), clock.stage("outer"), clock.stage("inner"):
        raise ZeroDivisionError
    with clock.stage("later"):
        pass
    assert clock.seconds.keys() == {"outer", "inner", "later"}


@pytest.mark.slow
def test_every_stage_of_a_scan_has_its_time(trained: Path, phantom: Path, tmp_path: Path) -> None:
    scan, path = phantom / "ct_images" / "ct_test_000.nii.gz", tmp_path / "rows.json"
    options = ("--slices", "8", "--repeats", "1", "--model_dir", str(trained), "--json", str(path))
    run_script("benchmark_stages.py", str(scan), *options)
    rows = read_json(path)["rows"]
    assert [row["scan"] for row in rows] == [scan.name, "512 x 512 x 8"]
    for row in rows:
        assert row["total"] == pytest.approx(sum(row["seconds"].values()), abs=0.02)
        assert sum(row["percent"].values()) == pytest.approx(100, abs=1)
        assert 0 < row["seconds"]["network"] < row["total"]


def test_a_scan_that_is_not_there_is_named() -> None:
    refused = run_script("benchmark_stages.py", "missing.nii.gz", check=False)
    assert refused.returncode == 2
    assert "missing.nii.gz" in refused.stderr
