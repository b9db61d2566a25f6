"""What `--help` among the options of a command prints: the runs and the options of its configs, with their comments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LINE = re.compile(r"^(?P<name>[a-z_]+): *(?P<value>[^#\s].*?)(?:  # (?P<comment>.*))?$")
LEFT = 34  # columns of an option and its value


def describe_options(files: Sequence[str], config: Mapping[str, Any], runs: Sequence[str]) -> str:
    """Returns the help of a command.

    Args:
        files: its config files; the comments of their text say what each option is.
        config: the files merged.
        runs: the ids that run something.
    """
    comments: dict[str, str] = {}
    for file in files:
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            found = LINE.match(line)
            if found is not None and _is_option(config.get(found["name"])):
                comments[found["name"]] = found["comment"] or comments.get(found["name"], "")
    lines = ["usage: python -m monai.bundle run RUN --config_file FILES [--OPTION VALUE ...]", ""]
    lines += [f"runs of these configs: {', '.join(name for name in runs if name != 'run')}", ""]
    lines += ["options of these configs with their values; an entry of a section is --SECTION#ENTRY VALUE:"]
    lines += [f"{f'  --{name} {config[name]}':{LEFT}}  {comment}".rstrip() for name, comment in comments.items()]
    return "\n".join(lines) + "\n"


def _is_option(value: Any) -> bool:
    """Returns whether an entry of a config is a value to choose, neither a section nor a reference to another entry."""
    return not isinstance(value, dict) and not str(value).startswith("@")
