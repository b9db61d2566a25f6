"""The README's demo, made short: every step runs, and the files it promises are there and agree."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from builders import assert_refused, read_json
from conftest import run_script
from demo import Commands

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo") / "demo"
    short = {"epochs": 1, "iterations_per_epoch": 1, "subjects": 4, "test_subjects": 1}
    run_script("demo.py", "--output_dir", str(output), *(f"--{name}={value}" for name, value in short.items()))
    return output


def test_the_demo_writes_dice_of_both_trainings_in_percent(demo: Path) -> None:
    results = read_json(demo / "results.json")
    for method in ("source_only", "sifa"):
        structures = results[method]["structures"]
        assert len(structures) == 4
        assert results[method]["mean_dice"] == pytest.approx(sum(structures.values()) / 4, abs=0.02)
        assert 0 <= results[method]["mean_dice"] <= 100
    measured = read_json(demo / "evaluation" / "sifa" / "results.json")
    assert results["sifa"]["mean_dice"] == pytest.approx(measured["metrics"]["mean_dice"]["mean"], abs=0.01)


def test_the_demo_segments_the_folder_of_test_scans_and_draws_them(demo: Path) -> None:
    assert [path.name for path in (demo / "masks" / "sifa").glob("*.nii.gz")] == ["ct_test_000_seg.nii.gz"]
    assert [path.name for path in (demo / "masks" / "shipped").glob("*.nii.gz")] == ["ct_test_000_seg.nii.gz"]
    assert "ct_test_000_preview.png" in (demo / "masks" / "shipped" / "index.html").read_text(encoding="utf-8")
    report = (demo / "report.html").read_text(encoding="utf-8")
    for picture in ("panels_sifa.png", "panels_source_only.png"):
        assert picture in report
        assert (demo / picture).read_bytes().startswith(b"\x89PNG")
    for method in ("source_only", "sifa"):
        assert f"models/{method}/report.html" in report
        assert (demo / "models" / method / "report.html").is_file()


def test_a_command_that_fails_stops_the_others_and_is_named_with_its_log(tmp_path: Path) -> None:
    commands = Commands()
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(commands.run, [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "slow.log")
        bad = pool.submit(commands.run, [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "bad.log")
        messages = {str(each.exception()) for each in (slow, bad)}
    assert len(messages) == 1
    assert "failed with status 3" in messages.pop()
    with pytest.raises(SystemExit, match=r"bad\.log says why"):
        commands.run([sys.executable, "-c", ""], tmp_path / "late.log")
    assert not commands.running


def test_the_demo_does_not_overwrite_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep", encoding="utf-8")
    (tmp_path / "logs").mkdir()
    result = run_script("demo.py", "--output_dir", str(tmp_path), check=False)
    assert result.returncode == 1
    assert "is no earlier demo" in result.stderr
    assert (tmp_path / "precious.txt").exists()


def test_a_misspelled_option_is_refused_before_the_work(tmp_path: Path) -> None:
    result = run_script("demo.py", "--output_dir", str(tmp_path / "demo"), "--epoch", "3", check=False)
    assert_refused(result, "arg: --epoch: ", "--help")
    assert not (tmp_path / "demo").exists()


def test_a_surplus_word_is_refused_and_an_earlier_demo_stays(tmp_path: Path) -> None:
    (tmp_path / "made_by_demo.txt").touch()
    assert_refused(run_script("demo.py", str(tmp_path), "3", check=False), "arg: 3: ", "--help")
    assert (tmp_path / "made_by_demo.txt").exists()
