"""The table of scores for model selection: which epoch was chosen, and what a damaged table says."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import refusal
from sifa.reports.selection_table import read_scores

HEADER = "epoch,iteration,score,agreement,plausibility\n"


def table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "selection.csv"
    path.write_text(header + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [(("0.1", "0.3", "0.2"), 2), (("0.3", "0.3", "0.2"), 2), (("nan", "0.5", "0.7"), 3), (("0.5", "nan", ""), 1)],
)
def test_the_highest_score_is_chosen_of_equal_ones_the_last_and_never_one_that_is_missing(
    scores: tuple[str, ...], chosen: int, tmp_path: Path
) -> None:
    rows = [f"{epoch},{10 * epoch},{score},1,1" for epoch, score in enumerate(scores, start=1)]
    found = read_scores(table(tmp_path, *rows))
    assert found is not None
    assert (found.chosen, found.iteration, found.highest) == (chosen, 30, float(scores[chosen - 1]))


def test_without_a_table_or_a_score_nothing_was_chosen(tmp_path: Path) -> None:
    assert read_scores(tmp_path / "selection.csv") is None
    assert read_scores(table(tmp_path)) is None
    assert read_scores(table(tmp_path, "1,10,nan,nan,nan")) is None


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (HEADER, "1,10,good,1,1"),
        ("epoch,iteration,agreement\n", "1,10,1"),
        ("iteration,score\n", "10,0.5"),
        (HEADER, ",10,1,1,1"),
    ],
)
def test_a_damaged_table_is_named(header: str, row: str, tmp_path: Path) -> None:
    path = table(tmp_path, row, header=header)
    assert refusal(lambda: read_scores(path)) == f"{path}: this is no table of scores: copy it again from the run."
