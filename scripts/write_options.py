"""Writes bundle/docs/options.md, the list of all options, from the configs and the comments in them.

    python scripts/write_options.py [--output FILE]

An option is an entry at the top of a config whose value is a number, a text, a list of numbers, or an expression of
folders and of the device; in no config it is a component. Its meaning is the comment behind the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from command_line import run_command_line
from sifa.utils.files import write_text

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundle" / "configs"
COMPLETE = ("inference.yaml", "evaluate.yaml", "adapt_batch_norm.yaml", "calibrate.yaml")  # with a table each
SIZES = ("recommended.yaml", "compact.yaml")  # with a column each in the table of train.yaml
NO_OVERLAYS = ("terminology.yaml", "monailabel.yaml", "multi_gpu_train.yaml", "train.yaml", *COMPLETE)
NOT_SET = ("bundle_root", "run", "handlers")  # what the bundle itself gives
PLACES = {"bundle_root", "dataset_dir", "device"}  # that the value of an option may refer to
HEADING = re.compile(r"# --- (.+?) -+$")
ENTRY = re.compile(r"(\w+):(?: |$)")
INTRODUCTION = """\
# Options

Written by `python scripts/write_options.py` from the configs and their comments. Give an option on the command line as
`--name value`; values are Python's: `True`, `False`, `'$None'`, `"[64,64]"`. An overlay changes several at once
([architecture.md](architecture.md#configs-and-overlays)). Entries that build a part of the network or of the workflow
are not listed: read the configs from top to bottom. Options that no command uses are refused, with the name that was
probably meant.
"""


class Option(NamedTuple):
    """An option of a config."""

    name: str
    value: str  # as the config has it
    meaning: str
    section: str


def read_options(path: Path) -> Iterator[Option]:
    """Yields the options of a config, in its order."""
    section, content = "", content_of(path.name)
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if heading := HEADING.match(line):
            section = heading[1]
        if not (entry := ENTRY.match(line)):
            continue
        value, meaning = split_comment(line[entry.end() :])
        for following in lines[number + 1 :]:
            if not following.startswith("# ") or following.startswith("# ---") or not meaning:
                break
            meaning += f" {following[2:]}"
        if value and is_option(entry[1], content[entry[1]]) and not is_component(entry[1]):
            yield Option(entry[1], value, meaning, section)


def split_comment(text: str) -> tuple[str, str]:
    """Returns a value and the comment behind it, both without spaces around them."""
    value, _, comment = text.partition("  # ") if not text.startswith("# ") else ("", "", text[2:])
    return value.strip(), comment.strip()


def is_option(name: str, value: Any) -> bool:
    """Returns whether an entry of a config is one that a user may set."""
    if name in NOT_SET or isinstance(value, dict):
        return False
    if isinstance(value, list):
        return all(isinstance(entry, (int, float)) for entry in value)
    return set(re.findall(r"@(\w+)", str(value))) <= PLACES


@cache
def content_of(name: str) -> dict[str, Any]:
    """Returns the content of a config, which is read once."""
    content: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    return content


def is_component(name: str) -> bool:
    """Returns whether train.yaml builds what an entry names, or an overlay does where train.yaml leaves it empty."""
    base = content_of("train.yaml").get(name)
    values = [content[name] for content in map(content_of, overlays()) if name in content]
    built = any(isinstance(value, dict) and "_target_" in value for value in values)
    return (
        built
        or not is_option(name, base)
        or (base in (None, []) and any("@" in value for value in values if isinstance(value, str)))
    )


def overlays() -> list[str]:
    """Returns the names of the overlays of a training, sorted, without those that run elsewhere than others."""
    return sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name not in NO_OVERLAYS)


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [headings, ["---"] * len(headings), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(value: str) -> str:
    """Returns a value in Markdown; nothing stays nothing."""
    return f"`{value}`" if value else ""


def training_tables() -> Iterator[str]:
    """Yields a section for each one of train.yaml, with the values of the overlays that set a training's size."""
    overlays = {name: {option.name: option for option in read_options(CONFIGS / name)} for name in SIZES}
    options = list(read_options(CONFIGS / "train.yaml"))
    known = {option.name for option in options}
    options += [option for name in SIZES for option in overlays[name].values() if option.name not in known]
    options = list({option.name: option for option in options}.values())
    for section in dict.fromkeys(option.section for option in options):
        rows = [
            [
                code(option.name),
                code(option.value) if option.name in known else "",
                *(code(entries[option.name].value) if option.name in entries else "" for entries in overlays.values()),
                option.meaning or next((o[option.name].meaning for o in overlays.values() if option.name in o), ""),
            ]
            for option in options
            if option.section == section
        ]
        title = section if section in {option.section for option in options if option.name in known} else "Additions"
        yield f"### {title}\n\n{table(['option', 'train.yaml', *SIZES, 'meaning'], rows)}"


def render() -> str:
    """Returns the page."""
    parts = [
        INTRODUCTION,
        "## Training\n\nFor `run training` and `run planning`. An empty cell: the overlay does not set the option.\n",
        *training_tables(),
    ]
    for name in COMPLETE:
        rows = [[code(one.name), code(one.value), one.meaning] for one in read_options(CONFIGS / name)]
        parts.append(f"## {name}\n\n{table(['option', 'value', 'meaning'], rows)}")
    others = [CONFIGS / name for name in overlays() if name not in SIZES]
    meanings = {one.name: one.meaning for name in (*SIZES, "train.yaml") for one in read_options(CONFIGS / name)}
    rows = [
        [path.name, code(one.name), code(one.value), one.meaning or meanings.get(one.name, "")]
        for path in others
        for one in read_options(path)
    ]
    parts.append(f"## Values in other overlays\n\n{table(['overlay', 'option', 'value', 'meaning'], rows)}")
    return "\n".join(parts)


def write(output: str | None = None) -> None:
    """Writes the page.

    Args:
        output: the file; None: bundle/docs/options.md.
    """
    write_text(Path(output) if output else ROOT / "bundle" / "docs" / "options.md", render())


if __name__ == "__main__":
    run_command_line(write)
