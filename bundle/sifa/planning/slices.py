"""Rules for the slices of a training: their plane, the field that they show, and their pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

EQUAL = 1.25  # ratio of two fields up to which they count as the same
SQUARE = 1.5  # ratio of the sides of a field up to which slices are square
REDUCTION = 8  # pixels of a latent of E, which halves the resolution three times
ENOUGH = 2.5  # latents across the narrowest structure in a training of an hour or two, as in abdomen.yaml
FINE = 5.0  # the same where there is time for it, as in the paper
LARGEST = 256  # pixels, as in the paper; larger slices have not been measured
SMALLEST = 64  # pixels, as in compact.yaml
STEP = 32  # pixels between the sizes that are considered
ROUND = 16  # pixels that a shorter side is a multiple of


class Pixels(NamedTuple):
    """Rows and columns of a slice, and the size of a pixel in mm."""

    size: tuple[int, int]
    spacing: float

    @property
    def extent(self) -> tuple[float, float]:
        """Rows and columns in mm."""
        return self.size[0] * self.spacing, self.size[1] * self.spacing


def choose_field(source: Sequence[float], target: Sequence[float] | None, labels: Sequence[float]) -> tuple[float, ...]:
    """Returns the extent in mm that a slice shows along each of its sides.

    Where the bodies of both domains have about the same extent, slices show the larger one, so that they cut nothing
    off. Where they differ, slices show the smaller one: the discriminators would tell the domains apart by the air
    around the smaller one. Slices show all labels in any case.

    Args:
        source: rows and columns in mm of the body on source scans, around the middle of the scan.
        target: the same of target scans; None: there are none.
        labels: the same of the labels, largest among the subjects.
    """
    fields = []
    for one, other, needed in zip(source, target or source, labels, strict=True):
        small, large = sorted((one, other))
        fields.append(max(large if large <= EQUAL * small else small, needed))
    longest = max(fields)
    return tuple(longest if longest <= SQUARE * field else field for field in fields)


def wanted_spacing(structures: Mapping[str, Sequence[float]], latents: float) -> tuple[float, str]:
    """Returns the pixel size in mm at which the narrowest structure is some latents wide, and its name.

    E works at an eighth of the resolution, so a structure narrower than a latent is hardly seen.

    Args:
        structures: sides in mm of the box around each structure along rows, columns and slices.
        latents: across the narrower side in the plane.
    """
    widths = {name: min(box[0], box[1]) for name, box in structures.items()}
    narrowest = min(widths, key=lambda name: widths[name])
    return widths[narrowest] / (REDUCTION * latents), narrowest


def wanted_size(field: Sequence[float], spacing: float) -> int:
    """Returns the pixels of the longer side at which pixels are at most `spacing` mm, from `SMALLEST` to `LARGEST`."""
    return min(LARGEST, max(SMALLEST, STEP * math.ceil(round(max(field) / spacing / STEP, 6))))


def pixels_of(field: Sequence[float], size: int) -> Pixels:
    """Returns the slices that show a field with some pixels along its longer side.

    The pixel size is rounded up to quarters of a millimeter from 2 mm on, else to twentieths.

    Args:
        field: rows and columns in mm.
        size: pixels of the longer side.
    """
    exact = max(field) / size
    step = 0.25 if exact >= 2 else 0.05
    spacing = round(step * math.ceil(round(exact / step, 6)), 2)
    rows, columns = (
        size if side == max(field) else ROUND * math.ceil(round(side / spacing / ROUND, 6)) for side in field
    )
    return Pixels((rows, columns), spacing)


def latents_across(structures: Mapping[str, Sequence[float]], spacing: float) -> tuple[float, str]:
    """Returns how many latents the narrowest structure is wide at a pixel size, and its name."""
    wanted, name = wanted_spacing(structures, 1.0)
    return wanted / spacing, name
