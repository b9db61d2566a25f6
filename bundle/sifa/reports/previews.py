"""Previews: the contours of a mask over three planes of its scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten, wrap
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from PIL import Image

from sifa.reports.case_index import milliliters
from sifa.reports.colors import colors_of
from sifa.transforms.orientation import AXCODES
from sifa.utils.files import temporary_beside

Array = npt.NDArray[Any]
Row = tuple[str | None, str, str, str, str]  # of the legend: contour's color, name, volume, note, note's color

LIGHT, FLAGGED, MUTED = "#d8d8d8", "#ffb454", "#9a9a9a"
OPPOSITE = dict(zip("LRPAIS", "RLAPSI", strict=True))

DPI = 100
WIDTH, MARGIN, GAP, TITLE, ROW = 10.5, 0.12, 0.08, 0.22, 0.2  # of a picture, in inches, as are the next two
PANEL_HEIGHTS = (2.5, 7.0)  # lowest and highest
NAME_AT, VOLUME_TO, NOTE_AT = 0.47, 4.4, 4.6  # columns of the legend
LONGEST_NAME, LONGEST_NOTE = 40, 80  # characters
PLAIN: dict[str, Any] = {"fontsize": 9, "va": "center_baseline", "parse_math": False, "usetex": False}  # "$" is "$"
GRAYS = np.repeat(np.linspace(0, 255, 64).round(), 3)  # of the PNG file: 64 grays look the same and halve its size
SHADES = (1, 0.75, 0.5)  # of each color in the PNG file
PALETTE = 256  # colors of a PNG file with a palette


class PlaneSlice(NamedTuple):
    """One slice of a volume in radiological orientation."""

    pixels: Array  # (rows, columns), a view of the volume
    spacing: tuple[float, float]  # mm between rows, and between columns
    point: tuple[int, int]  # row and column of the voxel that it passes through


def plane_slices(image: Array, affine: Array, point: Sequence[int]) -> dict[str, PlaneSlice]:
    """Returns the patient's three planes through a voxel, along the stored grid, without copying.

    Args:
        image: (X, Y, Z), its axes in any order and direction; an oblique grid is treated as the nearest straight one.
        affine: (4, 4), from indices to mm, to the patient's right, anterior and superior (`RAS`).
        point: index of the voxel in `image`.

    Returns:
        The axial, coronal and sagittal slice. Patient's right is at the left, superior (axial: anterior) at the top,
        and anterior at the left of the sagittal slice.
    """
    stored, sizes = nib.io_orientation(affine), nib.affines.voxel_sizes(affine)
    slices = {}
    for plane, axcodes in AXCODES.items():
        turn = nib.orientations.ornt_transform(stored, nib.orientations.axcodes2ornt(tuple(axcodes)))
        axes = np.argsort(turn[:, 0])  # the stored axes of the rows, the columns and the slices
        flipped = [image.shape[axis] - 1 - point[axis] if turn[axis, 1] < 0 else point[axis] for axis in axes]
        row, column, depth = (int(index) for index in flipped)
        pixels = nib.orientations.apply_orientation(image, turn)[..., depth]
        slices[plane] = PlaneSlice(pixels, (float(sizes[axes[0]]), float(sizes[axes[1]])), (row, column))
    return slices


def organ_point(mask: Array, affine: Array) -> tuple[int, int, int]:
    """Returns the index of the voxel that the preview's planes pass through.

    Args:
        mask: (X, Y, Z), 0 is background.
        affine: (4, 4), from indices to mm.

    Returns:
        The mask's voxel nearest to the center of mass of all structures; the volume's center if the mask is empty.
    """
    axis = int(np.argmax(np.abs(mask.strides)))  # slabs that are contiguous in memory
    slabs = np.moveaxis(mask, axis, 0)
    filled = [index for index, slab in enumerate(slabs) if slab.any()]
    if not filled:
        return mask.shape[0] // 2, mask.shape[1] // 2, mask.shape[2] // 2

    def voxels(index: int) -> Array:
        return np.insert(np.argwhere(slabs[index]), axis, index, axis=1)

    def nearest(candidates: Array) -> Array:
        return candidates[np.square((candidates - center) * sizes).sum(axis=1).argmin()]

    sizes, count = nib.affines.voxel_sizes(affine), sum(np.count_nonzero(slabs[index]) for index in filled)
    center = np.sum([voxels(index).sum(axis=0) for index in filled], axis=0) / count
    x, y, z = nearest(np.stack([nearest(voxels(index)) for index in filled]))
    return int(x), int(y), int(z)


def draw_preview(
    image: Array,
    mask: Array,
    affine: Array,
    labels: Mapping[int, str],
    volumes_ml: Mapping[str, float],
    flags: Mapping[str, Sequence[str]],
    window: tuple[float, float],
    colors: Mapping[int, str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the contours of a mask over three planes of its scan, with a legend.

    Args:
        image: (X, Y, Z) in HU, as stored.
        mask: (X, Y, Z) uint8, as stored.
        affine: (4, 4) of both, from indices to mm in `RAS`.
        labels: mask value to name, without the background.
        volumes_ml: volume of each structure in ml.
        flags: warnings about a structure or about the scan, by name.
        window: HU that are drawn black and white, respectively.
        colors: of the structures, `#rrggbb`, by value; None: those of `sifa.reports.colors`.
        notes: a remark on a structure that is no warning, by name.

    Raises:
        ValueError: when image and mask differ in shape.
    """
    if image.shape != mask.shape:
        raise ValueError(f"the mask has shape {mask.shape}, the scan {image.shape}.")
    point = organ_point(mask, affine)
    images, masks = plane_slices(image, affine, point), plane_slices(mask, affine, point)
    contours = colors_of(labels) if colors is None else colors
    drawn = {name for value, name in labels.items() if any((part.pixels == value).any() for part in masks.values())}
    rows = _legend({name: contours[value] for value, name in labels.items()}, volumes_ml, flags, notes or {}, drawn)
    heights, widths = np.transpose([np.multiply(part.pixels.shape, part.spacing) for part in images.values()])  # mm
    scale = (WIDTH - 2 * MARGIN - 2 * GAP) / widths.sum()
    panels = float(np.clip(scale * heights.max(), *PANEL_HEIGHTS))
    height = TITLE + panels + 2 * MARGIN + ROW * len(rows)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="black")
    left = MARGIN
    for plane, width in zip(images, scale * widths, strict=True):
        ax = figure.add_axes((left / WIDTH, 1 - (TITLE + panels) / height, width / WIDTH, panels / height))
        _draw_plane(ax, plane, images[plane], masks[plane].pixels, contours, window)
        left += width + GAP
    _write_legend(figure, rows, height)
    return figure


def _draw_plane(
    ax: Axes, plane: str, part: PlaneSlice, mask: Array, contours: Mapping[int, str], window: tuple[float, float]
) -> None:
    height, width = np.multiply(mask.shape, part.spacing)
    ax.imshow(part.pixels, cmap="gray", vmin=window[0], vmax=window[1], extent=(0, width, height, 0), aspect="equal")
    # A frame of background closes the contours of what touches the border.
    rows, columns = ((np.arange(-1, n + 1) + 0.5) * mm for n, mm in zip(mask.shape, part.spacing, strict=True))
    for value, color in contours.items():
        inside = np.pad(mask == value, 1).astype(np.uint8)
        if inside.any():
            ax.contour(columns, rows, inside, levels=[0.5], colors=[color], linewidths=1.4)
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()
    ax.set_title(plane, color=LIGHT, fontsize=9, pad=3, usetex=False)
    down, right = AXCODES[plane][0], AXCODES[plane][1]
    outline = [withStroke(linewidth=2, foreground="black")]
    for letter, x, y in ((OPPOSITE[down], 0.5, 1), (down, 0.5, 0), (OPPOSITE[right], 0, 0.5), (right, 1, 0.5)):
        inward = (8 - 16 * x, 8 - 16 * y)  # points
        text = ax.annotate(letter, (x, y), inward, "axes fraction", "offset points", ha="center", **PLAIN)
        text.set(color="white", fontweight="bold", path_effects=outline)


def _legend(
    colors: Mapping[str, str],
    volumes_ml: Mapping[str, float],
    flags: Mapping[str, Sequence[str]],
    remarks: Mapping[str, str],
    drawn: set[str],
) -> list[Row]:
    """Returns the lines of the legend: one per structure, and more for long notes."""
    rows: list[Row] = []
    for name in dict.fromkeys([*colors, *flags]):
        notes = [(line, FLAGGED) for line in wrap("; ".join(flags.get(name, ())), LONGEST_NOTE)]
        if name in remarks:
            notes.append((remarks[name], MUTED))
        if name in colors and name not in drawn and volumes_ml.get(name):
            notes.append(("in none of these planes", MUTED))
        first, *more = notes or [("", MUTED)]
        volume = milliliters(volumes_ml.get(name)) if name in colors else ""
        rows.append((colors.get(name), shorten(name, LONGEST_NAME, placeholder="..."), volume, *first))
        rows.extend((None, "", "", *note) for note in more)
    return rows


def _write_legend(figure: Figure, rows: Sequence[Row], height: float) -> None:
    """Writes the rows at the bottom of a figure of `height` inches."""
    for index, (color, name, volume, note, note_color) in enumerate(reversed(rows)):
        y = (MARGIN + ROW * (index + 0.5)) / height
        if color:
            figure.add_artist(Line2D((MARGIN / WIDTH, (MARGIN + 0.25) / WIDTH), (y, y), color=color, linewidth=3))
        figure.text(NAME_AT / WIDTH, y, name, color=LIGHT, **PLAIN)
        figure.text(VOLUME_TO / WIDTH, y, volume, color=LIGHT, ha="right", **PLAIN)
        figure.text(NOTE_AT / WIDTH, y, note, color=note_color, **PLAIN)


def write_preview(
    path: Path, image: Array, mask: Array, affine: Array, labels: Mapping[int, str], volumes_ml: Mapping[str, float],
    flags: Mapping[str, Sequence[str]], window: tuple[float, float], colors: Mapping[int, str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Writes the figure of `draw_preview` as a PNG file without text metadata, whole or not at all."""
    drawn = colors_of(labels) if colors is None else colors
    figure = draw_preview(image, mask, affine, labels, volumes_ml, flags, window, drawn, notes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    palette = Image.new("P", (1, 1))
    hues = [int(color[at : at + 2], 16) for color in (*drawn.values(), FLAGGED) for at in (1, 3, 5)]
    palette.putpalette([int(value) for value in (*GRAYS, *np.outer(SHADES, hues).ravel())][: 3 * PALETTE])
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    with temporary_beside(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
