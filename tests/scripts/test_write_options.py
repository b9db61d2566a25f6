"""The list of options, which is written from the configs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from conftest import BUNDLE, run_script

PAGE = BUNDLE / "docs" / "options.md"


def rows(page: str) -> list[list[str]]:
    """Returns the cells of all rows of the tables in a page, without headings."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if " | `" in line or line.startswith("| `")]
    return [[cell.strip() for cell in line] for line in lines]


def test_the_page_is_what_the_script_writes_from_the_configs(tmp_path: Path) -> None:
    run_script("write_options.py", "--output", str(tmp_path / "options.md"))
    assert (tmp_path / "options.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_every_option_has_a_meaning() -> None:
    found = rows(PAGE.read_text(encoding="utf-8"))
    assert len(found) > 60
    assert [row[0] for row in found if not re.search("[A-Za-z]{2}", row[-1])] == []


def test_values_are_those_of_the_configs() -> None:
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")
    for name in ("inference.yaml", "evaluate.yaml"):
        content = yaml.safe_load((BUNDLE / "configs" / name).read_text(encoding="utf-8"))
        (section,) = [part for part in sections if part.startswith(name)]
        for option, value, _ in rows(section):
            assert yaml.safe_load(value.strip("`")) == content[option.strip("`")]


def test_components_of_the_workflow_are_no_options() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ("fingerprint", "score", "self_training", "hyper", "handlers", "target_training", "pool_seed"):
        assert f"| `{name}` |" not in page
