"""The table of scalars: what is appended is read back, and what a killed process cut is dropped."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sifa.reports.scalar_table import append_row, read_columns, read_rows, rewrite

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8)


@given(names=st.lists(NAMES, max_size=4, unique=True), values=st.lists(st.floats(), max_size=4))
def test_names_and_values_are_read_back_as_they_were_written(
    names: list[str], values: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("table") / "scalars.csv"
    columns = rewrite(path, 0, ["iteration", *names])
    assert columns == ["iteration", *(name for name in names if name != "iteration")]
    for iteration, value in enumerate(values, 1):
        append_row(path, [iteration, *[value] * (len(columns) - 1)])

    found = read_columns(path)

    assert list(found) == columns
    for name in columns[1:]:
        assert str(found[name].tolist()) == str(values)  # NaN is not equal to itself


@pytest.mark.parametrize("cut", ["", "3", "3,", "3,1", "3,1.5,", "\0\0\0", "3,1.5\n3,1.5,2,2\n,1,2\nthree,1,2\n"])
def test_incomplete_rows_are_dropped(cut: str, tmp_path: Path) -> None:
    path = tmp_path / "scalars.csv"
    path.write_text(f"iteration,loss,cycle\n1,0.5,\n2,0.25,1.0\n{cut}", encoding="utf-8")

    columns, rows = read_rows(path)

    assert columns == ["iteration", "loss", "cycle"]
    assert rows == [["1", "0.5", ""], ["2", "0.25", "1.0"]]
    assert math.isnan(read_columns(path)["cycle"][0])


@pytest.mark.parametrize("content", ["", "\n", "no table", "no table\n", "epoch,loss\n1,2\n"])
def test_a_file_that_is_no_such_table_is_an_empty_one(content: str, tmp_path: Path) -> None:
    path = tmp_path / "scalars.csv"
    path.write_text(content, encoding="utf-8")

    assert read_rows(path) == ([], [])
    assert rewrite(path, 9, ["iteration", "loss"]) == ["iteration", "loss"]
    assert path.read_text(encoding="utf-8") == "iteration,loss\n"
