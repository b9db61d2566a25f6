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
    lines = [line for note in notes for line in textwrap.wrap(f"# {note}", COLUMNS, subsequent_indent="#   ")]
    for setting in settings:
        line = f"{setting.name}: {_value(setting.value)}"
        if len(line) + len(setting.reason) + 4 <= COLUMNS:
            lines.append(f"{line}  # {setting.reason}")
        else:
            lines += [*textwrap.wrap(f"# {setting.reason}", COLUMNS, subsequent_indent="# "), line]
    return "\n".join(lines) + "\n" + INITIALIZE


def _value(value: Any) -> str:
    """Returns a value in YAML; JSON in one line is YAML as well."""
    return value if isinstance(value, str) else json.dumps(value)
