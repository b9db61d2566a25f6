"""Colors of structures in previews, grids of slices and figures."""

from __future__ import annotations

from collections.abc import Mapping

COLORS = (
    "#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6",
    "#bcf60c", "#fabebe", "#008080", "#e6beff", "#9a6324", "#aaffc3", "#ffd8b1",
)  # fmt: skip


def colors_of(labels: Mapping[int, str], chosen: Mapping[str, str] | None = None) -> dict[int, str]:
    """Returns the color of each structure by value.

    Args:
        labels: names by value, without the background.
        chosen: colors by name, `#rrggbb`; the others take theirs from `COLORS`, by their place among the labels.
    """
    given = chosen or {}
    return {value: given.get(name, COLORS[place % len(COLORS)]) for place, (value, name) in enumerate(labels.items())}
