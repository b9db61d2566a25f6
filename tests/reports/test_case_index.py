"""The page that lists the scans of a run: links, order, escaping."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from sifa.reports.case_index import lowest_predictions, write_index


class Page(HTMLParser):
    """The tags, links and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["script"]:
            self.text += data


def case(name: str, status: str = "ok", **changes: Any) -> dict[str, Any]:
    """Returns a case of a manifest."""
    return {
        "input": f"{name}.nii.gz",
        "output": f"{name}_seg.nii.gz",
        "status": status,
        "message": "",
        "seconds": 1.25,
        "volumes_ml": {},
        "flags": {},
        "preview": f"{name}.png",
    } | changes


def index_of(folder: Path, *cases: dict[str, Any]) -> Path:
    """Writes the page of `cases`."""
    return write_index(folder, {"cases": list(cases), "model": "a model", "created": "today"})


AWKWARD = (
    "a b/c d",
    "ü/心",
    "100%#1?",
    "quote\"'&<script>alert(1)<",
    "javascript:alert(1)",
    "-x",
    "%41",
    "bytes\udcff",
)


@pytest.mark.parametrize("name", AWKWARD)
def test_links_lead_to_files_with_any_name(tmp_path: Path, name: str) -> None:
    item = case(name)
    for key in ("output", "preview"):
        (tmp_path / item[key]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / item[key]).touch()
    page = Page(index_of(tmp_path, item))
    assert len(page.links) == 3
    for link in page.links:
        assert re.fullmatch(r"\./[A-Za-z0-9_.~/%-]+", link)
        assert (tmp_path / unquote(link, errors="surrogateescape")).is_file()
    assert item["input"].encode("utf-8", "replace").decode() in page.text


def test_everything_in_the_manifest_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"&amp;"
    item = case(evil, "warning", message=evil, volumes_ml={evil: 1.0}, flags={evil: [evil], "scan": [evil]})
    path = write_index(tmp_path, {"cases": [item], "model": evil, "created": evil})
    plain = Page(index_of(tmp_path / "plain", case("x", "warning", volumes_ml={"a": 1.0}, flags={"b": ["c"]})))
    page = Page(path)
    assert set(page.tags) == set(plain.tags)
    assert page.tags.count("script") == 1
    assert page.text.count(evil) == 8  # model, created, input, message, structure, its flag, scan's flag, order


def test_what_failed_comes_first_and_the_counts_stand_at_the_top(tmp_path: Path) -> None:
    statuses = {"one": "ok", "two": "skipped", "three": "warning", "four": "failed", "five": "ok", "six": "flagged"}
    page = Page(index_of(tmp_path, *(case(name, status) for name, status in statuses.items())))
    assert re.findall(r"(\w+)\.nii\.gz", page.text) == ["four", "three", "six", "one", "five", "two"]
    assert "1 failed 1 warning 1 flagged 2 ok 1 skipped" in " ".join(page.text[: page.text.index("four.nii")].split())


def test_a_case_has_its_message_seconds_volumes_and_flags(tmp_path: Path) -> None:
    item = case("a", "warning", message="look", volumes_ml={"liver": 1234.56, "spleen": None}, flags={"liver": ["two"]})
    text = Page(index_of(tmp_path, item)).text
    for part in ("warning", "look", "1.2 s", "liver", "1234.6 ml", "two", "spleen", "n/a", "a model", "today"):
        assert part in text
    assert "Not for clinical use with the shipped weights" in text


def test_a_failed_case_has_no_links(tmp_path: Path) -> None:
    failed = {"input": "a", "output": None, "status": "failed", "message": "unreadable", "seconds": 0.0}
    page = Page(index_of(tmp_path, failed))
    assert not page.links
    assert "unreadable" in page.text


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    content = index_of(tmp_path).read_text(encoding="utf-8")
    page = Page(tmp_path / "index.html")
    assert not {"link", "iframe"} & set(page.tags)
    assert not page.links  # nor a source of the script
    assert "http" not in content
    assert "url(" not in content
    assert [item.name for item in tmp_path.iterdir()] == ["index.html"]


def test_names_break_behind_their_separators_only(tmp_path: Path) -> None:
    content = index_of(tmp_path, case("amos_0001/CT-portal.venous")).read_text(encoding="utf-8")
    assert "amos_<wbr>0001/<wbr>CT-<wbr>portal.<wbr>venous.<wbr>nii.<wbr>gz" in content
    assert "overflow-wrap: anywhere" not in content


def test_scans_can_be_sorted_by_the_volume_of_each_structure_that_one_shows(tmp_path: Path) -> None:
    first = case("a", volumes_ml={"liver": 1234.5, "left kidney": None}, flags={"scan": ["odd"]})
    content = index_of(tmp_path, first, case("b", volumes_ml={"spleen": 0.0})).read_text(encoding="utf-8")
    assert re.findall('<option value="(.*?)">', content) == [
        "order",
        "name",
        "seconds",
        "volume liver",
        "volume spleen",
    ]
    assert 'data-structure="liver" data-volume="1234.5"' in content
    assert 'data-structure="left kidney" data-volume=""' in content


def test_previews_load_as_they_come_into_view(tmp_path: Path) -> None:
    content = index_of(tmp_path, case("a"), case("b")).read_text(encoding="utf-8")
    assert content.count('loading="lazy"') == content.count("<img src=") == 2


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"status 'fine' of a\.nii\.gz is none of failed, warning, flagged, ok, skipped"
    ):
        index_of(tmp_path, case("a", "fine"))


def predicted_case(name: str, liver: float, spleen: float | None) -> dict[str, Any]:
    entry = {"predicted_dice": liver, "low": liver - 0.1, "high": liver + 0.1}
    quality: dict[str, Any] = {"liver": entry, "spleen": {"volume_ml": 3.0}}
    if spleen is not None:
        quality["spleen"] = {"predicted_dice": spleen, "low": 0.0, "high": 1.0}
    case = {"input": name, "output": "a.nii.gz", "status": "ok", "message": "", "seconds": 1.0}
    return {**case, "volumes_ml": {"liver": 1500.0, "spleen": 3.0}, "quality": quality}


def test_the_page_names_the_scans_with_the_lowest_predicted_dice_first(tmp_path: Path) -> None:
    cases = [
        predicted_case("good.nii", 0.9, 0.8),
        predicted_case("poor.nii", 0.7, 0.2),
        predicted_case("one.nii", 0.5, None),
    ]
    found = lowest_predictions(cases)
    assert [(one.input, one.structure) for one in found] == [
        ("poor.nii", "spleen"),
        ("one.nii", "liver"),
        ("good.nii", "spleen"),
    ]
    page = write_index(tmp_path, {"model": "m", "created": "now", "cases": cases}).read_text(encoding="utf-8")
    assert page.index("Look at these first") < page.index("spleen: predicted Dice 0.20")
    assert "Dice 0.90 (0.80 to 1.00)" in page
    assert '<option value="dice spleen">' in page
    assert 'data-dice="0.2"' in page


def test_a_page_without_predictions_says_nothing_of_dice(tmp_path: Path) -> None:
    case = predicted_case("a.nii", 0.5, None)
    case["quality"] = {"liver": {"predicted_dice": float("nan"), "low": 0.0, "high": 1.0}}
    page = write_index(tmp_path, {"model": "m", "created": "now", "cases": [case]}).read_text(encoding="utf-8")
    assert "Look at these first" not in page
    assert 'value="dice' not in page
