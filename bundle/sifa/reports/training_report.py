"""`report.html`: one page about a training, made of the files in its folder, that needs nothing but itself."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sifa.reports.curves import Array, draw_curve, group_scalars
from sifa.reports.scalar_table import ITERATION, read_columns
from sifa.reports.slice_grid import list_pictures
from sifa.utils.files import write_text

PICTURES = 4  # at most, spread over the training
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid #d0d7de; padding-bottom: .25rem }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem } img { max-width: 100%; display: block; margin: .5rem 0 1.5rem }
table { border-collapse: collapse; margin: .5rem 0 } th { font-weight: 600 }
td, th { border-top: 1px solid #d0d7de; padding: .3rem 1.5rem .3rem 0; text-align: left; vertical-align: top;
  overflow-wrap: anywhere }
.numbers td + td, .numbers th + th { text-align: right; font-variant-numeric: tabular-nums; padding: .3rem .75rem }
tr:first-child > * { border-top: 0 } .settings th { white-space: nowrap } .quiet { color: #59636e; margin-top: .25rem }
.warning { border-left: 4px solid #d4a72c; background: #fff8c5; padding: .5rem .75rem; margin: .5rem 0 }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { font-size: 13px; font-weight: 600; overflow-wrap: anywhere }
svg line { stroke: #eaeef2 } svg text { font-size: 11px; fill: #59636e }
svg path { fill: none; stroke-linejoin: round; stroke-linecap: round }
.raw { stroke: #b6d4f5 } .mean { stroke: #0969da; stroke-width: 2 }
pre { background: #f6f8fa; padding: .75rem; overflow-x: auto; font-size: 13px } summary { cursor: pointer }
"""


def write_report(output_dir: Path) -> Path:
    """Writes `report.html` from whatever of these lies in `output_dir`, and returns its path.

    `run.json`, `config.yaml`, `scalars.csv`, `validation.json`, `warnings.txt` and `images/`.
    """
    record = _read_json(output_dir / "run.json")
    sections = [
        _settings(record),
        _sessions(record.get("sessions", [])),
        _warnings(output_dir / "warnings.txt"),
        _validation(_read_json(output_dir / "validation.json")),
        _curves(output_dir / "scalars.csv"),
        _pictures(output_dir / "images"),
        _config(output_dir / "config.yaml"),
    ]
    title = f"Training on {record['data']['name']}" if record.get("data") else "Training"
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title><style>{STYLE}</style></head><body>
<h1>{_text(title)}</h1>
<p class="quiet">{_text(_when(record.get("sessions", [])))}</p>
{"".join(sections)}</body></html>
"""
    write_text(output_dir / "report.html", page)
    return output_dir / "report.html"


def _when(sessions: Sequence[Mapping[str, Any]]) -> str:
    if not sessions:
        return ""
    last = sessions[-1]
    end = f"ended {last['ended']} after iteration {last['last_iteration']}" if last["ended"] else "not ended"
    return f"Started {sessions[0]['started']}, {end}."


def _settings(record: Mapping[str, Any]) -> str:
    """Returns what the training was started with, the last time."""
    if not record.get("sessions"):
        return ""
    session, data = record["sessions"][-1], record.get("data") or {}
    rows = {
        "Seed": record["seed"],
        **{f"{domain.title()} images": _domain(data[domain]) for domain in ("source", "target") if domain in data},
        "Structures": ", ".join(name for value, name in data.get("labels", {}).items() if value != "0"),
        "Slices": f"{data['slice_plane']}, {_times(data['slice_size'])} pixels" if data else "",
        "Command": " ".join(session["command"]),
        "Code": _code(session["git"]),
        "Versions": ", ".join(f"{name} {version}" for name, version in session["versions"].items()),
        "Device": f"{session['device']} ({session['device_name']}), {session['platform']}",
        "Processes": session["processes"],
        "Threads": session["threads"],
    }
    cells = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows.items() if value != ""
    )
    return f'<h2>Settings</h2><table class="settings">{cells}</table>'


def _domain(domain: Mapping[str, Any]) -> str:
    return f"{domain['modality']}, {domain['volumes']} volumes"


def _times(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes))


def _code(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return "not in a git checkout"
    return f"{git['revision'][:12]}{', modified' if git['modified'] else ''}"


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> str:
    """Returns a table of the starts of a training that was interrupted."""
    if len(sessions) < 2:
        return ""
    rows = [
        (
            session["started"],
            session["first_iteration"],
            session["last_iteration"] or "interrupted",
            "" if session["seconds"] is None else f"{session['seconds']:.0f}",
            session["versions"]["sifa"],
            _code(session["git"]),
        )
        for session in sessions
    ]
    return "<h2>Sessions</h2>" + _table(
        ("started", "first iteration", "last iteration", "seconds", "sifa", "code"), rows
    )


def _warnings(path: Path) -> str:
    if not path.is_file():
        return ""
    lines = dict.fromkeys(path.read_text(encoding="utf-8").splitlines())  # training that goes on repeats some
    return "<h2>Warnings</h2>" + "".join(f'<div class="warning">{_text(line)}</div>' for line in lines)


def _validation(results: Mapping[str, Any]) -> str:
    """Returns what `ResultsTable` wrote of the last validation: means over the volumes."""
    if not results:
        return ""
    metrics = list(results["metrics"].values())
    rows = [
        (structure, *(_mean(metric["structures"][structure]) for metric in metrics))
        for structure in metrics[0]["structures"]
    ]
    mean = ("mean", *(_number(metric["mean"]) for metric in metrics))
    caption = f"The last one, of {len(results['volumes'])} volumes. n/a: the prediction or the truth is empty."
    table = _table(("structure", *(metric["heading"] for metric in metrics)), [*rows, mean])
    return f'<h2>Validation</h2><p class="quiet">{_text(caption)}</p>{table}'


def _mean(structure: Mapping[str, Any]) -> str:
    missing = structure["not_available"]
    return _number(structure["mean"]) + (f" ({missing} n/a)" if missing else "")


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _curves(path: Path) -> str:
    table = read_columns(path)
    parts = [f"<h3>{_text(group)}</h3>{_group(table, names)}" for group, names in group_scalars(table).items()]
    caption = (
        '<p class="quiet">Over iterations. Faint: as recorded; line: moving mean over 2 % of the training. '
        "Outliers lie on the border.</p>"
    )
    return f"<h2>Curves</h2>{caption}{''.join(parts)}" if parts else ""


def _group(table: Mapping[str, Array], names: Iterable[str]) -> str:
    curves = [
        f"<figure><figcaption>{_text(name)}</figcaption>{draw_curve(table[ITERATION], table[name])}</figure>"
        for name in names
    ]
    return f'<div class="curves">{"".join(curves)}</div>'


def _pictures(folder: Path) -> str:
    """Returns some of the pictures, from the first to the last, at equal distances."""
    pictures = list(list_pictures(folder).items())
    if not pictures:
        return ""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, PICTURES).round().astype(int))
    parts = [_embed(pictures[index][1].read_bytes(), f"Slices of iteration {pictures[index][0]}") for index in chosen]
    caption = f'<p class="quiet">{len(parts)} of {len(pictures)}; all are in images/.</p>'
    return f"<h2>Pictures</h2>{caption}{''.join(parts)}"


def _config(path: Path) -> str:
    if not path.is_file():
        return ""
    text = _text(path.read_text(encoding="utf-8"))
    return f"<h2>Config</h2><details><summary>As it was run</summary><pre>{text}</pre></details>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table of numbers, but for its first column."""
    head = "".join(f"<th>{_text(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="numbers"><tr>{head}</tr>{body}</table>'


def _embed(png: bytes, description: str) -> str:
    return f'<img alt="{_text(description)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _text(value: object) -> str:
    """Returns a value as text for HTML; bytes of file names that are no text become question marks."""
    return html.escape(str(value).encode("utf-8", "replace").decode())


def _read_json(path: Path) -> Mapping[str, Any]:
    """Returns the content of a JSON file; nothing where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
