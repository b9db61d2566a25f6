"""The typed fingerprint and its file: round trips, format 1, and entries that are missing or wrong."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import make_fingerprint, read_json, refusal
from conftest import BUNDLE
from hypothesis import given
from hypothesis import strategies as st
from sifa.fingerprint.fingerprint import (
    FORMAT,
    FORMAT_OF_VALUES,
    Domain,
    Fingerprint,
    NetworkSize,
    TrainingSummary,
    VolumeRange,
    parse_fingerprint,
    read_fingerprint,
    write_fingerprint,
)
from sifa.fingerprint.statistics import DomainStatistics, TrainingStatistics
from sifa.transforms.label_values import HIGHEST
from sifa.transforms.orientation import ACQUIRED, AXCODES, PLANES

FILE_0_1_0 = Path(__file__).with_name("fingerprint_0.1.0.json")
MATCHED = ("matched_in_plane", "source_size")
FREE_KEYS = ("structures", "spatial_prior", "versions")  # objects whose keys are not fixed

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
NUMBERS = st.floats(-1e6, 1e6)
LENGTHS = st.floats(1e-3, 1e6)


@st.composite
def intensities(draw: st.DrawFn) -> dict[str, Any]:
    """Draws an intensity rule, some with a curve."""
    rule = {"mode": draw(st.sampled_from(["window", "percentiles"])), "lower": draw(NUMBERS), "upper": draw(NUMBERS)}
    points = draw(st.lists(NUMBERS, max_size=4))
    return rule | ({"curve": {"from": points, "to": points[::-1]}} if points else {})


@st.composite
def domains(draw: st.DrawFn) -> Domain:
    """Draws a domain."""
    triples = st.tuples(LENGTHS, LENGTHS, LENGTHS)
    summary = TrainingSummary(
        draw(st.integers(1, 999)), draw(st.tuples(NUMBERS, NUMBERS)), draw(triples), draw(triples)
    )
    return Domain(draw(NAMES), draw(intensities()), summary)


@st.composite
def label_values(draw: st.DrawFn, classes: int) -> dict[int, int]:
    """Draws values of the classes in masks, or none, where they are the classes themselves."""
    values = draw(st.lists(st.integers(1, HIGHEST), min_size=classes - 1, max_size=classes - 1, unique=True))
    return dict(enumerate([0, *values])) if draw(st.booleans()) else {}


@st.composite
def statistics(draw: st.DrawFn, names: list[str]) -> TrainingStatistics:
    """Draws statistics of training data."""
    triples, counts = st.tuples(LENGTHS, LENGTHS, LENGTHS), st.integers(1, 9999)
    domain = st.builds(DomainStatistics, st.tuples(counts, counts, counts), triples, st.floats(0, 1))
    return TrainingStatistics(draw(domain), draw(domain), draw(triples), {name: draw(triples) for name in names})


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    """Draws a fingerprint of 1 to 4 structures."""
    structures = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    plane = draw(st.sampled_from(PLANES))
    prior = {"center": [draw(NUMBERS), draw(NUMBERS), draw(NUMBERS)], "radius_mm": draw(LENGTHS)}
    rows, columns = draw(st.tuples(*[st.integers(1, 64).map(lambda eighth: 8 * eighth)] * 2))
    is_matched = draw(st.booleans())
    return make_fingerprint(
        name=draw(st.text()),
        labels=dict(enumerate(["background", *structures])),
        slice_plane=plane,
        orientation=AXCODES.get(plane, ACQUIRED),
        spacing=(draw(LENGTHS), draw(LENGTHS), draw(st.just(0.0) | LENGTHS)),
        slice_size=(rows, columns),
        matched_in_plane=is_matched,
        source_size=(rows + is_matched * draw(st.integers(0, 9)), columns + is_matched * draw(st.integers(0, 9))),
        pamr_iterations=draw(st.integers(0, 50)),
        structures={name: VolumeRange(draw(LENGTHS), draw(LENGTHS)) for name in structures[1:]},
        spatial_prior={str(value): prior for value in range(1, len(structures))},
        source=draw(domains()),
        target=draw(domains()),
        network=NetworkSize(draw(st.integers(1, 4)), len(structures) + 1, draw(LENGTHS)),
        versions=draw(st.dictionaries(NAMES, NAMES, max_size=3)),
        label_values=draw(label_values(len(structures) + 1)),
        statistics=draw(st.none() | statistics(structures)),
    )


def key_paths(content: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the keys that lead to each entry of an object and of the objects in it."""
    for key, value in content.items():
        yield (*place, key)
        if isinstance(value, dict):
            yield from key_paths(value, (*place, key))


def is_optional(place: tuple[str, ...]) -> bool:
    """Returns whether an object may lack this entry."""
    return (
        place[-1] in ("curve", *MATCHED)
        or place == ("statistics",)
        or (len(place) == 2 and place[0] in FREE_KEYS)
        or (place[:2] == ("statistics", "structures") and len(place) == 3)
    )


def parent_of(content: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    """Returns the object in which the last key of `place` is."""
    for key in place[:-1]:
        content = content[key]
    return content


# --- round trips ---


@given(fingerprints())
def test_a_fingerprint_is_read_back_from_json_unchanged(fingerprint: Fingerprint) -> None:
    text = json.dumps(fingerprint.to_json())

    assert parse_fingerprint(text) == fingerprint
    assert json.dumps(parse_fingerprint(text).to_json()) == text


def test_a_file_that_is_read_and_written_has_the_same_bytes(tmp_path: Path) -> None:
    shipped = BUNDLE / "models" / "fingerprint.json"

    write_fingerprint(read_fingerprint(shipped), tmp_path / "fingerprint.json")

    assert (tmp_path / "fingerprint.json").read_bytes() == shipped.read_bytes()


# --- values of labels ---


def test_a_fingerprint_without_values_of_labels_is_written_as_before_and_one_with_them_is_not() -> None:
    plain = make_fingerprint()
    with_values = make_fingerprint(label_values={0: 0, 1: 205, 2: 420})

    assert plain.to_json()["format"] == 2
    assert "label_values" not in plain.to_json()
    assert plain.mask_values == {0: 0, 1: 1, 2: 2}
    assert with_values.to_json()["format"] == 3  # earlier versions refuse it: their masks would hold 1 and 2
    assert with_values.to_json()["label_values"] == {"0": 0, "1": 205, "2": 420}
    assert with_values.mask_values == {0: 0, 1: 205, 2: 420}
    assert with_values.structure_names == plain.structure_names
    assert with_values.classes_of([420, 205]) == [1, 2]
    assert with_values.classes_of(420) == [2]
    assert plain.classes_of([2]) == [2]


@pytest.mark.parametrize(
    "values",
    [
        {"0": 0, "1": 205},
        {"0": 0, "1": 205, "2": 205},
        {"0": 7, "1": 205, "2": 420},
        {"0": 0, "1": 205, "2": 40_000},
        {"0": 0, "1": 0, "2": 420},
        {"0": 0, "1": "205", "2": 420},
        [0, 205, 420],
    ],
)
def test_values_of_labels_that_cannot_be_are_refused(values: Any) -> None:
    content = make_fingerprint(label_values={0: 0, 1: 205, 2: 420}).to_json() | {"label_values": values}

    assert "label_values" in refusal(lambda: Fingerprint.from_json(content, "fingerprint.json"))


# --- format 1 ---


def test_the_file_of_0_1_0_holds_the_same_fingerprint_as_the_shipped_one() -> None:
    shipped = BUNDLE / "models" / "fingerprint.json"

    assert read_json(FILE_0_1_0)["format"] == 1
    assert read_json(shipped)["format"] == FORMAT == 2
    assert read_fingerprint(FILE_0_1_0) == read_fingerprint(shipped)


def test_a_format_1_file_without_refinement_and_arrangement_has_neither_pamr_nor_a_spatial_prior() -> None:
    content = read_json(FILE_0_1_0)
    del content["refinement_iterations"], content["arrangement"]

    fingerprint = Fingerprint.from_json(content, "fingerprint.json")

    assert fingerprint.pamr_iterations == 0
    assert fingerprint.spatial_prior == {}


def test_an_error_in_a_format_1_file_names_the_keys_of_that_format() -> None:
    content = read_json(FILE_0_1_0)
    del content["arrangement"]["2"]["reach"]

    assert "it lacks arrangement.2.reach:" in refusal(lambda: Fingerprint.from_json(content, "fingerprint.json"))


@pytest.mark.parametrize("number", [FORMAT_OF_VALUES + 1, 99])
def test_a_later_format_is_refused(number: int) -> None:
    content = make_fingerprint().to_json() | {"format": number}

    message = refusal(lambda: Fingerprint.from_json(content, "folder/fingerprint.json"))

    assert message.startswith(f"folder/fingerprint.json: its format is {number}, this bundle reads 1 to 3:")


# --- entries that are missing or wrong ---


@given(fingerprints(), st.data())
def test_a_missing_entry_is_named_with_the_keys_that_lead_to_it(fingerprint: Fingerprint, data: st.DataObject) -> None:
    content = fingerprint.to_json()
    place = data.draw(st.sampled_from([place for place in key_paths(content) if not is_optional(place)]))
    del parent_of(content, place)[place[-1]]

    message = refusal(lambda: Fingerprint.from_json(content, "folder/fingerprint.json"))

    assert message.startswith("folder/fingerprint.json: ")
    assert (place[0] if place[0] in ("labels", "label_values") else ".".join(place)) in message


@given(fingerprints(), st.data(), st.sampled_from([None, True, math.nan, math.inf, [[]]]))
def test_an_entry_of_a_wrong_type_is_named_with_the_keys_that_lead_to_it(
    fingerprint: Fingerprint, data: st.DataObject, value: Any
) -> None:
    content = fingerprint.to_json()
    place = data.draw(st.sampled_from(list(key_paths(content))))
    parent_of(content, place)[place[-1]] = value

    message = refusal(lambda: Fingerprint.from_json(content, "folder/fingerprint.json"))

    assert message.startswith("folder/fingerprint.json: ")
    assert f"{'.'.join(place)} is " in message


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("format", 0),
        ("format", "2"),
        ("labels", {"0": "background", "2": "left", "3": "right"}),
        ("labels", {"0": "background", "1": "left"}),
        ("slice_plane", "oblique"),
        ("orientation", "LPX"),
        ("orientation", "LRS"),
        ("spacing", [1.0, 1.0]),
        ("spacing", [0.0, 1.0, 1.0]),
        ("spacing", [1.0, 1.0, -1.0]),
        ("matched_in_plane", 1),
        ("source_size", [8, 32]),
        ("slice_size", [16, 20]),
        ("slice_size", [0, 16]),
        ("slice_size", [16, "16"]),
        ("pamr_iterations", -1),
        ("pamr_iterations", 1.5),
        ("structures.left", [0.5, 2.5]),
        ("spatial_prior", {"0": {"center": [0, 0, 0], "radius_mm": 1}}),
        ("spatial_prior", {"left": {"center": [0, 0, 0], "radius_mm": 1}}),
        ("target.intensity.mode", "histogram"),
        ("target.intensity.curve", {"from": [0, 1], "to": [0, 1, 2]}),
        ("target.intensity.curve", {"from": [], "to": []}),
        ("target.training.volumes", 0),
        ("network.width", 0),
        ("network.in_channels", 0),
    ],
)
def test_an_entry_out_of_its_range_is_named(place: str, value: Any) -> None:
    content = make_fingerprint().to_json()
    keys = tuple(place.split("."))
    parent_of(content, keys)[keys[-1]] = value

    message = refusal(lambda: Fingerprint.from_json(content, "fingerprint.json"))

    assert message.startswith(f"fingerprint.json: {place}")


def test_checking_does_not_change_the_content() -> None:
    content = read_json(FILE_0_1_0)
    before = copy.deepcopy(content)

    Fingerprint.from_json(content, "fingerprint.json")

    assert content == before


# --- files ---


def test_a_missing_fingerprint_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path / "fingerprint.json") in refusal(lambda: read_fingerprint(tmp_path / "fingerprint.json"))


@pytest.mark.parametrize("written", [b"", b'{"format": 1,', b"\xff\xfe\x00", b"[]", b"3", b"{}"])
def test_a_corrupt_fingerprint_is_refused(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "fingerprint.json"
    path.write_bytes(written)

    assert str(path) in refusal(lambda: read_fingerprint(path))


# --- derived values ---


def test_structure_names_leave_out_the_background() -> None:
    assert make_fingerprint().structure_names == {1: "left", 2: "right"}


def test_the_summary_describes_the_training_data_without_figures_of_volumes() -> None:
    assert make_fingerprint().summary() == {
        "name": "tiny",
        "labels": {"0": "background", "1": "left", "2": "right"},
        "slice_plane": "coronal",
        "slice_size": [16, 32],
        "spacing": [4.7, 4.7, 0.0],
        "source": {"modality": "MR", "volumes": 3},
        "target": {"modality": "CT", "volumes": 3},
    }


def test_colors_and_codes_of_structures_are_kept_and_left_out_where_there_are_none(tmp_path: Path) -> None:
    terminology = {"left": {"color": "#0a141e"}, "right": {"type": ["4147007", "SCT", "Mass"]}}
    fingerprint = make_fingerprint(terminology=terminology)
    write_fingerprint(fingerprint, tmp_path / "fingerprint.json")
    assert read_fingerprint(tmp_path / "fingerprint.json") == fingerprint
    assert fingerprint.colors == {"left": "#0a141e"}
    assert "terminology" not in make_fingerprint().to_json()
    content = {**fingerprint.to_json(), "terminology": {"heart": {"color": "#0a141e"}}}
    (tmp_path / "fingerprint.json").write_text(json.dumps(content), encoding="utf-8")
    message = refusal(lambda: read_fingerprint(tmp_path / "fingerprint.json"))
    assert message == f"{tmp_path / 'fingerprint.json'}: terminology: 'heart' is no structure: choose from left, right."
