"""The benchmark of training: what it counts, and what its naive schedule is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import read_json
from conftest import ROOT, run_script
from iterations import (
    BATCHES,
    ORDER,
    PAPER,
    build_networks,
    largest_difference,
    naive_iteration,
    state_of,
    train,
    update_of,
)
from sifa.adaptation.image_pool import ImagePool
from sifa.training.iteration_update import IterationUpdate

pytestmark = pytest.mark.slow

TINY = ("--width", "0.0625", "--size", "32", "--iterations", "1")


def naive_method() -> Any:
    """The script's own class."""
    spec = importlib.util.spec_from_file_location("benchmark_training", ROOT / "scripts" / "benchmark_training.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.NaiveSIFA


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Rows at a width and size where networks weigh more than what goes with them."""
    path = tmp_path_factory.mktemp("benchmark") / "rows.json"
    arguments = ("--width", "0.25", "--size", "64", "--iterations", "1", "--precisions", "fp32", "--json", str(path))
    run_script("benchmark_training.py", *arguments)
    return read_json(path)["rows"]


def test_there_is_a_row_for_each_schedule_with_work_time_and_memory(rows: list[dict[str, Any]]) -> None:
    assert [(row["schedule"], row["precision"]) for row in rows] == [
        ("naive", "fp32"),
        ("sequential", "fp32"),
        ("simultaneous", "fp32"),
    ]
    assert all(row["seconds_per_iteration"] > 0 and row["peak_gib"] > 0 for row in rows)
    assert all(0 < row["data_percent"] < 100 for row in rows)
    naive = rows[0]["seconds_per_iteration"]
    assert [row["of_naive"] for row in rows] == [
        pytest.approx(row["seconds_per_iteration"] / naive, abs=0.01) for row in rows
    ]


def test_the_work_shrinks_from_naive_to_reuse_to_all_at_once(rows: list[dict[str, Any]]) -> None:
    naive, sequential, simultaneous = (row["gmac_per_slice"] for row in rows)
    assert sequential < 0.8 * naive
    assert simultaneous < 0.58 * naive


@pytest.mark.parametrize("guided", [False, True])
def test_the_naive_schedule_differs_in_nothing_but_the_moment_at_which_fakes_for_the_discriminators_are_made(
    guided: bool,
) -> None:
    networks = build_networks(guided=guided)
    naive = naive_iteration(networks, PAPER, ImagePool(0), ImagePool(0))
    naive.run(BATCHES[0])
    update = update_of(networks)
    train(IterationUpdate(naive_method()(update.method), update.precision), BATCHES[:1])
    mine, expected = state_of(networks), state_of(naive.networks)
    for name in ORDER:
        own = [key for key in mine if key.startswith(f"{name}.")]
        difference, where = largest_difference({key: mine[key] for key in own}, {key: expected[key] for key in own})
        made_before = name in ("target_discriminator", "source_discriminator")
        assert (difference > 1e-7) if made_before else (difference < 1e-9), where


def test_the_table_of_a_setting_is_replaced_in_a_document_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "training.md"
    begin, end = "<!-- benchmark_training width=0.0625 size=32 batch=1 -->", "<!-- end -->"
    document.write_text(f"before\n{begin}\n{end}\nbetween\n{begin[:-5]}2 -->\nkept\n{end}\n", encoding="utf-8")
    only = ("--schedules", "simultaneous", "--precisions", "fp32", "--document", str(document))
    run_script("benchmark_training.py", *TINY, *only)
    lines = document.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["before", begin]
    assert lines[4].startswith("| simultaneous | fp32 |")
    assert lines[5:] == [end, "between", f"{begin[:-5]}2 -->", "kept", end]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(("--schedules", "fast"), "--schedules names fast"), (("--width", "1", "--itertions", "2"), "--itertions")],
)
def test_a_wrong_option_is_refused_before_the_work(arguments: tuple[str, ...], part: str) -> None:
    result = run_script("benchmark_training.py", *arguments, check=False)
    assert result.returncode == 2
    assert part in result.stderr
    assert "Traceback" not in result.stderr
