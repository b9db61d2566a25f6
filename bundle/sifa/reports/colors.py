"""Colors of structures in previews, grids of slices and figures."""

from __future__ import annotations

COLORS = (
    "#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6",
    "#bcf60c", "#fabebe", "#008080", "#e6beff", "#9a6324", "#aaffc3", "#ffd8b1",
)  # fmt: skip
