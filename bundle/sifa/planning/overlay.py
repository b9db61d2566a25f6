"""`plan.yaml`: a plan as an overlay of a training, a line for each setting with its reason."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from sifa.planning.plan import Setting

COLUMNS = 120
INITIALIZE = """\
initialize:  # as in train.yaml: reports an invalid command in one sentence
- "$__import__('sys').argv[1:2] == ['run'] and setattr(__import__('sys'), 'excepthook',
  lambda *error: __import__('sifa.utils').utils.report_error(*error))"
"""


def render(settings: Sequence[Setting], notes: Sequence[str]) -> str:
    """Returns the text of an overlay.

    Args:
        settings: the lines; the reason is a comment behind the value, or on lines of its own where it is long.
        notes: sentences that stand above them, as comments.
    """
    lines = [
        line for note in notes for line in textwrap.wrap(f"# {_in_a_line(note)}", COLUMNS, subsequent_indent="#   ")
    ]
    for setting in settings:
        line, reason = f"{setting.name}: {_value(setting.value)}", _in_a_line(setting.reason)
        if len(line) + len(reason) + 4 <= COLUMNS:
            lines.append(f"{line}  # {reason}")
        else:
            lines += [*textwrap.wrap(f"# {reason}", COLUMNS, subsequent_indent="# "), line]
    return "\n".join(lines) + "\n" + INITIALIZE


def _in_a_line(text: str) -> str:
    """Returns a text as a comment may hold it: names of data sets and structures may hold signs that end a line."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _value(value: Any) -> str:
    """Returns a value in YAML; JSON in one line is YAML as well."""
    return value if isinstance(value, str) else json.dumps(value)
