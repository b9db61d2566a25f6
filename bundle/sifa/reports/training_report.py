"""`report.html`: one page about a training, made of the files in its folder; it needs no other file."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sifa.reports.curves import draw_curve, to_svg
from sifa.reports.pages import write_page
from sifa.reports.scalar_groups import group_scalars
from sifa.reports.scalar_table import ITERATION, read_columns
from sifa.reports.selection_table import read_scores
from sifa.reports.slice_grid import list_pictures
from sifa.utils.errors import InputError

logger = logging.getLogger(__name__)

PICTURES = 4  # at most, spread over the training


def write_report(output_dir: Path) -> Path:
    """Writes `report.html` from whatever of these lies in `output_dir`, and returns its path.

    `run.json`, `config.yaml`, `scalars.csv`, `selection.csv`, `validation.json`, `warnings.txt` and `images/`. The page
    opens with the pictures of the last iteration, the chosen epoch and the curve of its score.
    """
    record = _read_json(output_dir / "run.json")
    sessions = record.get("sessions", [])
    pictures = list_pictures(output_dir / "images")
    path = output_dir / "report.html"
    write_page(
        path,
        "training_report.html.j2",
        title=f"Training on {record['data']['name']}" if record.get("data") else "Training",
        period=_period(sessions),
        selection=_selection(output_dir / "selection.csv"),
        settings=_settings(record),
        sessions=_sessions(sessions),
        warnings=dict.fromkeys(_read_text(output_dir / "warnings.txt").splitlines()),  # a resumed training repeats some
        validation=_validation(_read_json(output_dir / "validation.json")),
        curves=_curves(output_dir / "scalars.csv"),
        pictures={iteration: pictures[iteration].read_bytes() for iteration in reversed(_spread(list(pictures)))},
        pictures_total=len(pictures),
        config=_read_text(output_dir / "config.yaml"),
    )
    return path


def _period(sessions: Sequence[Mapping[str, Any]]) -> str:
    """Returns when the training started and ended."""
    if not sessions:
        return ""
    last = sessions[-1]
    end = f"ended {last['ended']} after iteration {last['last_iteration']}" if last["ended"] else "not ended"
    return f"Started {sessions[0]['started']}, {end}."


def _settings(record: Mapping[str, Any]) -> dict[str, object]:
    """Returns the settings of the last session, by their names on the page."""
    if not record.get("sessions"):
        return {}
    session, data = record["sessions"][-1], record.get("data") or {}
    settings = {
        "Seed": record["seed"],
        **{f"{domain.title()} images": _domain(data[domain]) for domain in ("source", "target") if domain in data},
        "Structures": ", ".join(name for value, name in data.get("labels", {}).items() if value != "0"),
        "Slices": f"{data['slice_plane']}, {' x '.join(map(str, data['slice_size']))} pixels" if data else "",
        "Command": " ".join(session["command"]),
        "Code": _code(session["git"]),
        "Versions": ", ".join(f"{name} {version}" for name, version in session["versions"].items()),
        "Device": f"{session['device']} ({session['device_name']}), {session['platform']}",
        "Processes": session["processes"],
        "Threads": session["threads"],
    }
    return {name: value for name, value in settings.items() if value != ""}


def _domain(domain: Mapping[str, Any]) -> str:
    return f"{domain['modality']}, {domain['volumes']} volumes"


def _code(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return "not in a git checkout"
    return f"{git['revision'][:12]}{', modified' if git['modified'] else ''}"


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Returns a row a session; nothing for a training that was never interrupted."""
    if len(sessions) < 2:
        return []
    return [
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


def _selection(path: Path) -> dict[str, Any]:
    """Returns the chosen epoch, its score and the curves of the scores over epochs; nothing without model selection."""
    try:
        scores = read_scores(path)
    except InputError as error:
        logger.warning("%s", error)
        return {}
    if scores is None:
        return {}
    return {
        "epoch": scores.chosen,
        "epochs": int(scores.epochs[-1]),
        "score": f"{scores.highest:.3f}",
        "curves": {
            name: to_svg(figure)
            for name, values in scores.values.items()
            if (figure := draw_curve(scores.epochs, values)) is not None
        },
    }


def _validation(results: Mapping[str, Any]) -> dict[str, Any]:
    """Returns means over the volumes of the last validation, from the file that `ResultsTable` writes."""
    if not results:
        return {}
    metrics = list(results["metrics"].values())
    rows = [
        (structure, *(_mean(metric["structures"][structure]) for metric in metrics))
        for structure in metrics[0]["structures"]
    ]
    return {
        "volumes": len(results["volumes"]),
        "headings": [metric["heading"] for metric in metrics],
        "rows": [*rows, ("mean", *(_number(metric["mean"]) for metric in metrics))],
    }


def _mean(structure: Mapping[str, Any]) -> str:
    missing = structure["not_available"]
    return _number(structure["mean"]) + (f" ({missing} n/a)" if missing else "")


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _curves(path: Path) -> dict[str, dict[str, bytes | None]]:
    """Returns the curves of each group as SVG files, by the names of their scalars; None without a finite value."""
    table = read_columns(path)

    def curve(name: str) -> bytes | None:
        figure = draw_curve(table[ITERATION], table[name])
        return None if figure is None else to_svg(figure)

    return {group.heading: {name: curve(name) for name in names} for group, names in group_scalars(table).items()}


def _spread(iterations: Sequence[int]) -> list[int]:
    """Returns some of the iterations, from the first to the last, at equal distances."""
    chosen = np.linspace(0, len(iterations) - 1, min(PICTURES, len(iterations))).round().astype(int)
    return [iterations[index] for index in chosen]


def _read_json(path: Path) -> Mapping[str, Any]:
    """Returns the content of a JSON file; an empty mapping without one."""
    return json.loads(_read_text(path) or "{}")


def _read_text(path: Path) -> str:
    """Returns the text of a file; an empty one without a file."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""
