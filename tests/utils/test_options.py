"""Options that take one value or several: what python-fire makes of them, and names in the place of values."""

from __future__ import annotations

from typing import Any

import pytest
from builders import refusal
from sifa.utils.options import names_of, structure_values

LABELS = {1: "Liver", 2: "right kidney", 3: "spleen"}


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (None, []),
        ([], []),
        (2, [2]),
        ([1, 3], [1, 3]),
        ("liver", [1]),
        (["RIGHT KIDNEY", 3], [2, 3]),
        ("[right kidney,3,liver]", [2, 3, 1]),  # as python-fire hands on a list whose parts are no Python names
        ("['right kidney']", [2]),
    ],
)
def test_structures_are_given_by_name_or_value(given: Any, values: list[int]) -> None:
    assert structure_values("largest_component", given, LABELS) == values


def test_a_name_in_the_right_case_comes_first() -> None:
    assert structure_values("largest_component", "LV", {1: "lv", 2: "LV"}) == [2]


@pytest.mark.parametrize("given", [0, 4, True, 1.0, "heart", ["liver", "heart"], "9"])
def test_what_is_no_structure_is_refused_with_the_list(given: Any) -> None:
    message = refusal(lambda: structure_values("largest_component", given, LABELS))
    assert message.startswith(f"--largest_component {given}: ")
    assert message.endswith("choose from 1 (Liver), 2 (right kidney), 3 (spleen).")


@pytest.mark.parametrize("given", [None, "", "[]", [], ["a", ""]])
def test_no_value_is_refused_where_one_is_needed(given: Any) -> None:
    assert "give at least one value" in refusal(lambda: names_of("model_dir", given))
