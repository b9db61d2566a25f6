"""`index.html`: one page that lists all scans of a run."""

from __future__ import annotations

import html
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sifa.utils.files import write_text

STATUSES = {"failed": "#b3261e", "warning": "#9a6700", "ok": "#1a7f37", "skipped": "#59636e"}  # in the page's order
DISCLAIMER = "Not for clinical use with the shipped weights: they were trained on generated data."
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1f2328; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } .cases, .preview img { width: 100% }
td { padding: 0 1rem 0 0; vertical-align: top; overflow-wrap: anywhere }
.case > td { border-top: 1px solid #d0d7de; padding: .75rem 1rem .75rem 0 }
.case > .preview { width: 30rem; padding-right: 0 }
.badge, .ml { white-space: nowrap; text-align: right }
.badge { color: #fff; border-radius: 1em; padding: .1em .7em; font-weight: 600 }
.quiet, footer { color: #59636e } .flag { color: #9a6700 }
footer { border-top: 1px solid #d0d7de; padding-top: .75rem }
"""


def write_index(output_dir: Path, manifest: Mapping[str, Any]) -> Path:
    """Writes `index.html`: a page that shows all cases of a run, what failed first, and needs nothing but itself.

    Args:
        output_dir: folder of the page; outputs and previews of the manifest are relative to it.
        manifest: `model`, `created` and `cases`: a list of `input`, `output`, `status` (ok, warning, failed or
            skipped), `message`, `seconds` and, where there are any, `volumes_ml`, `flags` and `preview`.

    Returns:
        The path of the page.

    Raises:
        ValueError: when a status is none of these.
    """
    cases: Sequence[Mapping[str, Any]] = manifest["cases"]
    for case in cases:
        if case["status"] not in STATUSES:
            raise ValueError(f"status {case['status']!r} of {case['input']} is none of {', '.join(STATUSES)}.")
    counts = Counter(case["status"] for case in cases)
    badges = " ".join(_badge(status, f"{counts[status]} {status}") for status in STATUSES)
    rows = "\n".join(_case(case) for case in sorted(cases, key=lambda case: list(STATUSES).index(case["status"])))
    path = Path(output_dir) / "index.html"
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Segmented scans</title><style>{STYLE}</style></head><body>
<h1>Segmented scans</h1>
<p>{badges}</p>
<p class="quiet">Model: {_text(manifest["model"])}. Created: {_text(manifest["created"])}.</p>
<table class="cases">{rows}</table>
<footer>{DISCLAIMER}</footer></body></html>
"""
    write_text(path, page)
    return path


def _case(case: Mapping[str, Any]) -> str:
    """Returns the table row of one case."""
    name, volumes, flags = _text(case["input"]), case.get("volumes_ml", {}), case.get("flags", {})
    structures = "".join(
        f"<tr><td>{_text(structure)}</td>"
        f'<td class="ml">{milliliters(volumes[structure]) if structure in volumes else ""}</td>'
        f'<td class="flag">{_text("; ".join(flags.get(structure, ())))}</td></tr>'
        for structure in dict.fromkeys([*volumes, *flags])
    )
    mask = f'<a href="{_url(case["output"])}">mask</a>' if case["output"] else ""
    seconds = f"{case['seconds']:.1f} s" if case["seconds"] else ""
    url = _url(case["preview"]) if case.get("preview") else ""
    preview = f'<a href="{url}"><img src="{url}" alt="Three planes of {name}" loading="lazy"></a>' if url else ""
    return (
        f'<tr class="case"><td>{_badge(case["status"], case["status"])}</td><td><b>{name}</b>'
        f"<div>{_text(case['message'])}</div><table>{structures}</table>"
        f'<div class="quiet">{seconds} {mask}</div></td><td class="preview">{preview}</td></tr>'
    )


def _badge(status: str, text: str) -> str:
    return f'<span class="badge" style="background: {STATUSES[status]}">{text}</span>'


def _text(text: str) -> str:
    """Returns `text` for HTML; bytes of file names that are no text become question marks."""
    return html.escape(text.encode("utf-8", "replace").decode())


def _url(relative: str) -> str:
    """Returns the URL of a file beside the page; `./` keeps it from being taken for another host or scheme."""
    return "./" + quote(os.fsencode(Path(relative).as_posix()))


def milliliters(volume: float | None) -> str:
    """Returns a volume in ml as text."""
    return "n/a" if volume is None or not math.isfinite(volume) else f"{volume:.1f} ml"
