"""`index.html`: one page that lists all scans of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sifa.reports.pages import write_page

STATUSES = {  # in the page's order
    "failed": "#b3261e",
    "warning": "#9a6700",
    "flagged": "#8250df",
    "ok": "#1a7f37",
    "skipped": "#59636e",
}


def write_index(output_dir: Path, manifest: Mapping[str, Any]) -> Path:
    """Writes `index.html`, which shows all cases of a run, failed ones first, and needs no other file but previews.

    A script in the page filters by status and text, sorts by name, time or volume, and enlarges previews, which a
    browser loads as they come into view.

    Args:
        output_dir: folder of the page; outputs and previews of the manifest are relative to it.
        manifest: `model`, `created` and `cases`: a list of `input`, `output`, `status` (ok, flagged, warning,
            failed or skipped), `message`, `seconds` and, where there are any, `volumes_ml`, `flags` and `preview`.

    Returns:
        The path of the page.

    Raises:
        ValueError: when a status is none of these.
    """
    cases: Sequence[Mapping[str, Any]] = manifest["cases"]
    for case in cases:
        if case["status"] not in STATUSES:
            raise ValueError(f"status {case['status']!r} of {case['input']} is none of {', '.join(STATUSES)}.")
    path = Path(output_dir) / "index.html"
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
    )
    return path


def _structures(case: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns name, volume, the number of its ml, and flags of all that has either."""
    volumes, flags = case.get("volumes_ml", {}), case.get("flags", {})
    return [
        {
            "name": name,
            "volume": milliliters(volumes[name]) if name in volumes else "",
            "ml": "" if _is_missing(volumes.get(name)) else str(volumes[name]),
            "flags": "; ".join(flags.get(name, ())),
        }
        for name in dict.fromkeys([*volumes, *flags])
    ]


def milliliters(volume: float | None) -> str:
    """Returns a volume in ml as text."""
    return "n/a" if _is_missing(volume) else f"{volume:.1f} ml"


def _is_missing(volume: float | None) -> bool:
    return volume is None or not math.isfinite(volume)
