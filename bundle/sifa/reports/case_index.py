"""`index.html`: one page that lists all scans of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sifa.reports.pages import write_page

STATUSES = {  # in the page's order
    "failed": "#b3261e",
    "warning": "#9a6700",
    "flagged": "#8250df",
    "ok": "#1a7f37",
    "skipped": "#59636e",
}
NAME = "index.html"
FIRST = 5  # scans that the page names as those to look at first


def write_index(output_dir: Path, manifest: Mapping[str, Any]) -> Path:
    """Writes `index.html`, which shows all cases of a run, failed ones first, and needs no other file but previews.

    A script in the page filters by status and text, sorts by name, time, volume or predicted Dice, and enlarges
    previews, which a browser loads as they come into view. Where there is a predicted Dice, the page names the scans to
    look at first.

    Args:
        output_dir: folder of the page; outputs and previews of the manifest are relative to it.
        manifest: `model`, `created` and `cases`: a list of `input`, `output`, `status` (ok, flagged, warning,
            failed or skipped), `message`, `seconds` and, where there are any, `volumes_ml`, `flags`, `preview` and
            `quality`, of which `predicted_dice`, `low` and `high` are shown.

    Returns:
        The path of the page.

    Raises:
        ValueError: when a status is none of these.
    """
    cases: Sequence[Mapping[str, Any]] = manifest["cases"]
    for case in cases:
        if case["status"] not in STATUSES:
            raise ValueError(f"status {case['status']!r} of {case['input']} is none of {', '.join(STATUSES)}.")
    path = Path(output_dir) / NAME
    shown = [
        {"preview": None, **case, "structures": _structures(case)}
        for case in sorted(cases, key=lambda case: list(STATUSES).index(case["status"]))
    ]
    write_page(
        path,
        "case_index.html.j2",
        model=manifest["model"],
        created=manifest["created"],
        colors=STATUSES,
        counts=Counter(case["status"] for case in cases),
        cases=shown,
        structures=dict.fromkeys(row["name"] for case in shown for row in case["structures"] if row["ml"]),
        predicted=dict.fromkeys(row["name"] for case in shown for row in case["structures"] if row["dice"]),
        first=lowest_predictions(cases),
    )
    return path


class Prediction(NamedTuple):
    """The structure of a scan whose predicted Dice is the lowest of the scan."""

    input: str
    structure: str
    dice: float


def lowest_predictions(cases: Sequence[Mapping[str, Any]], count: int = FIRST) -> list[Prediction]:
    """Returns the scans with the lowest predicted Dice of any structure, lowest first.

    Args:
        cases: entries of a manifest.
        count: of scans, at most.
    """
    found = []
    for case in cases:
        known = {name: dice for name, entry in (case.get("quality") or {}).items() if (dice := _predicted(entry))}
        if known:
            name = min(known, key=lambda name: known[name][0])
            found.append(Prediction(case["input"], name, known[name][0]))
    return sorted(found, key=lambda one: one.dice)[:count]


def _predicted(entry: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Returns predicted Dice and its interval of an entry of `quality`; None where there is none."""
    values = [entry.get(key) for key in ("predicted_dice", "low", "high")]
    if not all(isinstance(value, float | int) and math.isfinite(value) for value in values):
        return None
    dice, low, high = (float(value) for value in values if value is not None)
    return dice, low, high


def _structures(case: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns name, volume, the number of its ml, predicted Dice and flags of all that has either."""
    volumes, flags, quality = (case.get(key) or {} for key in ("volumes_ml", "flags", "quality"))
    rows = []
    for name in dict.fromkeys([*volumes, *flags]):
        predicted = _predicted(quality.get(name, {}))
        rows.append(
            {
                "name": name,
                "volume": milliliters(volumes[name]) if name in volumes else "",
                "ml": "" if _is_missing(volumes.get(name)) else str(volumes[name]),
                "dice": "" if predicted is None else str(predicted[0]),
                "predicted": "" if predicted is None else "Dice {:.2f} ({:.2f} to {:.2f})".format(*predicted),
                "flags": "; ".join(flags.get(name, ())),
            }
        )
    return rows


def milliliters(volume: float | None) -> str:
    """Returns a volume in ml as text."""
    return "n/a" if _is_missing(volume) else f"{volume:.1f} ml"


def _is_missing(volume: float | None) -> bool:
    return volume is None or not math.isfinite(volume)
