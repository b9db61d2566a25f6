"""Codes and colors of structures: of the bundle's file, and of the data set's own entries."""

from __future__ import annotations

from typing import Any

import pytest
from builders import refusal
from sifa.io.terminology import GENERIC, check_terms, structure_terms

LABELS = {0: "background", 1: "Liver", 2: "right kidney", 3: "adrenal lump"}
TUMOR = {"category": ["49755003", "SCT", "Morphologically Altered Structure"], "type": ["4147007", "SCT", "Mass"]}
PLACE = "dataset.json: 'terminology'"


def test_codes_of_the_file_are_found_by_name_in_any_case_and_others_are_anatomical_structures() -> None:
    terms = structure_terms(LABELS)
    assert set(terms) == {1, 2, 3}
    assert (terms[1].type.value, terms[1].modifier, terms[1].color) == ("10200004", None, None)
    assert terms[2].modifier is not None
    assert terms[2].modifier.meaning == "Right"
    assert (terms[3].category, terms[3].type) == (GENERIC["category"], GENERIC["type"])


def test_an_own_color_leaves_the_codes_and_an_own_type_replaces_all_of_them() -> None:
    own = check_terms(
        {"RIGHT KIDNEY": {"color": "#DD8265"}, "liver": TUMOR, "adrenal lump": {"type": TUMOR["type"]}}, LABELS, PLACE
    )
    assert list(own) == ["right kidney", "Liver", "adrenal lump"]
    terms = structure_terms(LABELS, own)
    assert terms[2].color == "#dd8265"
    assert terms[2].modifier is not None
    assert (terms[1].category.value, terms[1].type.value) == ("49755003", "4147007")
    assert (terms[3].category, terms[3].type.value) == (GENERIC["category"], "4147007")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "is not an object"),
        ({"heart": {"color": "#000000"}}, "'heart' is no structure: choose from Liver, right kidney, adrenal lump."),
        ({"background": {"color": "#000000"}}, "'background' is no structure"),
        ({"liver": "#000000"}, "'liver' is not an object with color"),
        ({"liver": {}}, "'liver' is not an object with color"),
        ({"liver": {"colour": "#000000"}}, "'liver' is not an object with color"),
        ({"liver": {"color": "red"}}, 'write it as "#rrggbb"'),
        ({"liver": {"color": [255, 0, 0]}}, 'write it as "#rrggbb"'),
        ({"liver": {"modifier": ["24028007", "SCT", "Right"]}}, "'liver' needs a type"),
        ({"liver": {"type": [10200004, "SCT", "Liver"]}}, "write type as"),
        ({"liver": {"type": ["10200004", "SCT"]}}, "write type as"),
        ({"liver": {"type": ["1" * 17, "SCT", "Liver"]}}, "of up to 16, 16, 64 characters"),
    ],
)
def test_what_is_not_of_the_form_is_refused_by_structure(content: Any, words: str) -> None:
    message = refusal(lambda: check_terms(content, LABELS, PLACE))
    assert message.startswith(PLACE)
    assert words in message
