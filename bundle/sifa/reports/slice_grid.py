"""Pictures of slices and network outputs: a row per slice, a column per kind of image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sifa.reports.colors import COLORS
from sifa.utils.keys import SIFAKeys

Slices = Mapping[str, npt.NDArray[np.float32]]  # of one sample, (C, H, W) by the names of SIFAKeys
Colors = npt.NDArray[np.float32]  # (H, W, 3) in [0, 1]

HEADINGS: dict[str, str] = {
    SIFAKeys.SOURCE_IMAGE: "source",
    SIFAKeys.FAKE_TARGET: "fake target",
    SIFAKeys.RECONSTRUCTED_SOURCE: "reconstructed source",
    SIFAKeys.TARGET_IMAGE: "target",
    SIFAKeys.FAKE_SOURCE: "fake source",
    SIFAKeys.RECONSTRUCTED_TARGET: "reconstructed target",
    SIFAKeys.PRED: "prediction",
}
PALETTE = to_rgba_array(COLORS)[:, :3]
OPACITY = 0.55  # of the prediction over its image
DPI, CELL = 120, 1.5  # width of a column in inches, as are the next three
TOP, LINE = 0.5, 0.22  # title and headings; a line of the legend
ENTRY, LONGEST_NAME = 2.2, 28  # width of an entry of the legend; characters in it


def draw_grid(rows: Sequence[Slices], title: str, labels: Mapping[int, str]) -> Figure:
    """Draws a row of images for each sample; the prediction lies over the image it was made from.

    Args:
        rows: images (1, H, W) in [-1, 1] and `pred`, logits (classes, H, W); an image that they lack has no column.
        title: of the figure.
        labels: class index to the name of its structure, for the legend; empty: no legend.
    """
    keys = [key for key in HEADINGS if key in rows[0]]
    mosaic = np.concatenate([np.concatenate([_tile(row, key) for key in keys], axis=1) for row in rows])
    width = len(keys) * CELL
    entries = max(1, int(width / ENTRY))  # in a line
    bottom = LINE * -(-len(labels) // entries)
    body = width * mosaic.shape[0] / mosaic.shape[1]
    total = TOP + body + bottom
    figure = Figure(figsize=(width, total), dpi=DPI, facecolor="white")
    ax = figure.add_axes((0, bottom / total, 1, body / total))
    ax.imshow(mosaic, aspect="auto")
    ax.set_axis_off()
    figure.text(0.5, 1 - 0.05 / total, title, fontsize=10, ha="center", va="top")
    for column, key in enumerate(keys):
        x, y = (column + 0.5) / len(keys), 1 - (TOP - 0.03) / total
        figure.text(x, y, HEADINGS[key], fontsize=8, ha="center", va="bottom")
    if labels:
        _add_legend(figure, labels, entries)
    return figure


def to_pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """Returns a figure as an RGB picture (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def picture_path(folder: Path, iteration: int) -> Path:
    """Returns the path of an iteration's picture."""
    return folder / f"iteration_{iteration:06d}.png"


def list_pictures(folder: Path) -> dict[int, Path]:
    """Returns the pictures in `folder` by iteration, in ascending order."""
    numbers = [path.stem.removeprefix("iteration_") for path in folder.glob("iteration_*.png")]
    iterations = sorted(int(number) for number in numbers if number.isdecimal())
    return {iteration: picture_path(folder, iteration) for iteration in iterations}


def _tile(row: Slices, key: str) -> Colors:
    """Returns one image with a white edge at its right and bottom."""
    pixels = _overlay(row) if key == SIFAKeys.PRED else _gray(row[key])
    edge = max(1, pixels.shape[0] // 40)
    return np.pad(pixels, ((0, edge), (0, edge), (0, 0)), constant_values=1)


def _gray(image: npt.NDArray[np.float32]) -> Colors:
    return np.repeat(np.nan_to_num((image[0] + 1) / 2).clip(0, 1)[..., None], 3, axis=2)


def _overlay(row: Slices) -> Colors:
    """Returns the image with the predicted classes over it, each in its color; background stays unchanged."""
    image = _gray(row[SIFAKeys.TARGET_IMAGE if SIFAKeys.TARGET_IMAGE in row else SIFAKeys.SOURCE_IMAGE])
    classes = row[SIFAKeys.PRED].argmax(axis=0)
    colors = PALETTE[(classes - 1) % len(PALETTE)]
    return np.where(classes[..., None] > 0, OPACITY * colors + (1 - OPACITY) * image, image)


def _add_legend(figure: Figure, labels: Mapping[int, str], entries: int) -> None:
    patches = [
        # matplotlib hides labels that begin with an underscore, so a space comes first.
        Patch(color=PALETTE[(value - 1) % len(PALETTE)], label=f" {shorten(name, LONGEST_NAME, placeholder='...')}")
        for value, name in labels.items()
    ]
    legend = figure.legend(handles=patches, loc="lower center", ncols=entries, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
