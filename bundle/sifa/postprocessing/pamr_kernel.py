"""PAMR as machine code for CPUs, compiled by numba; `sifa.postprocessing.pamr` has the formula.

What makes it fast:

- The weight of two pixels is computed once for both, and without an exponential for each pair. The sum of the weights
  of a pixel is divided by once, at the end of its mean.
- Only the probabilities of structures are averaged; the background is what they leave of 1.
- Images are cut into strips of `STRIP` columns, whose rows have one length in memory for images of any size. So the
  distance of two neighbors in memory is a constant, without which LLVM does not vectorize a sum of so many terms, and
  the rows that a pixel needs fit into the first-level cache.
- Two classes are averaged in one loop, which loads each weight once for both.

A strip is a flat array, row by row. A row has several lines of `LENGTH` values: one for each class or for each weight.
Around the image are `MARGIN` rows and columns, which repeat its border or belong to the strip beside it. Positions are
unsigned, since numba looks for negative ones otherwise, which prevents vectorization.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import binding

DILATIONS = (1, 2, 4)
DIRECTIONS = 4  # right, down left, down, down right; the other four are these, seen from the neighbor
WEIGHTS = DIRECTIONS * len(DILATIONS)  # of a pixel
MARGIN = max(DILATIONS)
STRIP = 64  # columns
LEFT = 16  # values of a line before the strip, which then begins at a multiple of 64 bytes
LENGTH = STRIP + 2 * LEFT
PAIR = 2  # lines of a row: two classes, which are averaged in one loop

Position = np.uint64
LINE = Position(LENGTH)
WEIGHT_ROW = Position(WEIGHTS * LENGTH)
ROW = Position(PAIR * LENGTH)
ONE, TWO, FOUR = (Position(dilation) for dilation in DILATIONS)
OF_ONE, OF_TWO, OF_FOUR = (Position(DIRECTIONS * number * LENGTH) for number in range(len(DILATIONS)))

BARE: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called from compiled code alone
FASTMATH = {"contract", "reassoc", "nsz"}  # NaN stays NaN
inlined = numba.njit(fastmath=FASTMATH, error_model="numpy", forceinline=True, **BARE)
compiled = numba.njit(fastmath=FASTMATH, error_model="numpy", **BARE)

Kernel = Callable[[np.ndarray, np.ndarray, int, np.ndarray], None]


@inlined
def _ring(weights: Any, right: Any, planes: Any, pixel: Any, distance: Any) -> Any:
    """Returns the weighted sum of the eight neighbors at a distance.

    Args:
        weights: of a strip, see `_weigh`.
        right: position of the pixel's weight with its right neighbor at this distance.
        planes: two classes of a strip.
        pixel: position of the pixel in one of them.
        distance: in pixels.
    """
    row, above = distance * ROW, distance * WEIGHT_ROW
    down_left = right + LINE
    down = down_left + LINE
    down_right = down + LINE
    return (
        weights[right] * planes[pixel + distance]
        + weights[right - distance] * planes[pixel - distance]
        + weights[down_left] * planes[pixel + row - distance]
        + weights[down_left - above + distance] * planes[pixel - row + distance]
        + weights[down] * planes[pixel + row]
        + weights[down - above] * planes[pixel - row]
        + weights[down_right] * planes[pixel + row + distance]
        + weights[down_right - above - distance] * planes[pixel - row - distance]
    )


@inlined
def _ring_total(weights: Any, right: Any, distance: Any) -> Any:
    """Returns the sum of the weights that `_ring` uses."""
    above = distance * WEIGHT_ROW
    down_left = right + LINE
    down = down_left + LINE
    down_right = down + LINE
    sides = weights[right] + weights[right - distance] + weights[down] + weights[down - above]
    corners = weights[down_left] + weights[down_left - above + distance]
    return sides + corners + weights[down_right] + weights[down_right - above - distance]


@inlined
def _sum_neighbors(weights: Any, first: Any, planes: Any, pixel: Any) -> Any:
    """Returns the weighted sum of all neighbors of a pixel whose first weight is at `first`."""
    return (
        _ring(weights, first + OF_ONE, planes, pixel, ONE)
        + _ring(weights, first + OF_TWO, planes, pixel, TWO)
        + _ring(weights, first + OF_FOUR, planes, pixel, FOUR)
    )


@compiled
def _average(weights: Any, planes: Any, scale: Any, result: Any, height: int, width: int) -> None:
    """Writes the mean over the neighbors of each pixel of a strip, of both classes, to `result`.

    Args:
        weights: see `_weigh`.
        planes: both classes.
        scale: see `_invert_totals`.
        result: overwritten; like `planes`, its margin excepted.
        height: rows of the image.
        width: columns of the strip.
    """
    for row in range(height):
        first = Position(row + MARGIN) * WEIGHT_ROW + Position(LEFT)
        start = Position(row + MARGIN) * ROW + Position(LEFT)
        line = Position(row) * LINE
        for column in range(Position(width)):
            pixel, factor = start + column, scale[line + column]
            # both sums before the first result: LLVM would load the weights again after it
            one = factor * _sum_neighbors(weights, first + column, planes, pixel)
            other = factor * _sum_neighbors(weights, first + column, planes, pixel + LINE)
            result[pixel] = one
            result[pixel + LINE] = other


@compiled
def _weigh(exponentials: Any, weights: Any, height: int) -> None:
    """Computes the weights of each pixel of a strip, margin included, with its neighbors to the right and below.

    The weight exp(-|x_i - x_j|) is the smaller one of exp(x_i) exp(-x_j) and exp(-x_i) exp(x_j).

    Args:
        exponentials: exp(x) and exp(-x), x in units of the contrast.
        weights: overwritten; a line for each dilation and direction.
        height: rows of the image.
    """
    rows, first = height + 2 * MARGIN, LEFT - MARGIN
    for row in range(rows):
        for number in range(WEIGHTS):
            distance, direction = 1 << (number // DIRECTIONS), number % DIRECTIONS
            down_by = 0 if direction == 0 else distance
            right_by = 0 if direction == 2 else -distance if direction == 1 else distance
            if row + down_by < rows:
                here = Position(row * PAIR * LENGTH + first)
                there = Position((row + down_by) * PAIR * LENGTH + first + right_by)
                target = Position((row * WEIGHTS + number) * LENGTH + first)
                for column in range(Position(STRIP + 2 * MARGIN)):
                    one = exponentials[here + column] * exponentials[there + LINE + column]
                    other = exponentials[here + LINE + column] * exponentials[there + column]
                    weights[target + column] = min(one, other)


@compiled
def _invert_totals(weights: Any, scale: Any, height: int, width: int) -> None:
    """Writes 1 divided by the sum of the weights of each pixel of a strip to `scale`, which has a line for each row."""
    for row in range(height):
        start, line = Position(row + MARGIN) * WEIGHT_ROW + Position(LEFT), Position(row) * LINE
        for column in range(Position(width)):
            first = start + column
            one, two = _ring_total(weights, first + OF_ONE, ONE), _ring_total(weights, first + OF_TWO, TWO)
            scale[line + column] = np.float32(1) / (one + two + _ring_total(weights, first + OF_FOUR, FOUR))


@compiled
def _store(images: Any, first: int, second: int, strips: Any) -> None:
    """Copies two of several images (N, H, W) to the lines of their strips."""
    height, width = images.shape[1:]
    for line in range(PAIR):
        image = images[first if line == 0 else second]
        for strip in range(len(strips)):
            for row in range(height):
                start = ((MARGIN + row) * PAIR + line) * LENGTH + LEFT
                for column in range(min(STRIP, width - strip * STRIP)):
                    strips[strip, start + column] = image[row, strip * STRIP + column]


@compiled
def _load(strips: Any, images: Any, first: int, second: int) -> None:
    """Copies the lines of strips to two of several images (N, H, W)."""
    height, width = images.shape[1:]
    for line in range(PAIR):
        image = images[first if line == 0 else second]
        for strip in range(len(strips)):
            for row in range(height):
                start = ((MARGIN + row) * PAIR + line) * LENGTH + LEFT
                for column in range(min(STRIP, width - strip * STRIP)):
                    image[row, strip * STRIP + column] = strips[strip, start + column]


@compiled
def _fill_margin(strips: Any, height: int, width: int) -> None:
    """Fills the margins of all strips of two images, from the strips beside them and from the border of the images."""
    row_length = PAIR * LENGTH
    top, bottom = MARGIN * row_length, (MARGIN + height - 1) * row_length
    for strip in range(len(strips)):
        columns = min(STRIP, width - strip * STRIP)
        for number in range(2 * MARGIN):
            offset = number - MARGIN if number < MARGIN else columns + number - MARGIN
            source = min(max(strip * STRIP + offset, 0), width - 1)
            beside, position, target = source // STRIP, LEFT + source % STRIP, LEFT + offset
            for line in range(MARGIN * PAIR, (MARGIN + height) * PAIR):
                strips[strip, line * LENGTH + target] = strips[beside, line * LENGTH + position]
        for distance in range(1, MARGIN + 1):
            for place in range(row_length):
                strips[strip, top - distance * row_length + place] = strips[strip, top + place]
                strips[strip, bottom + distance * row_length + place] = strips[strip, bottom + place]


def _refine(probabilities: Any, exponentials: Any, iterations: int, result: Any) -> None:
    """Refines a batch; see `kernel`."""
    batch, classes, height, width = probabilities.shape
    count, rows = -(-width // STRIP), height + 2 * MARGIN
    planes = np.zeros((count, rows * PAIR * LENGTH), dtype=np.float32)
    means = np.zeros((count, rows * PAIR * LENGTH), dtype=np.float32)
    weights = np.zeros((count, rows * WEIGHTS * LENGTH), dtype=np.float32)
    scale = np.zeros((count, height * LENGTH), dtype=np.float32)
    for number in range(batch):
        _store(exponentials[number], 0, 1, planes)
        _fill_margin(planes, height, width)
        for strip in range(count):
            _weigh(planes[strip], weights[strip], height)
            _invert_totals(weights[strip], scale[strip], height, min(STRIP, width - strip * STRIP))
        for first in range(1, classes, PAIR):
            second = min(first + 1, classes - 1)  # the same class twice where their number is odd
            _store(probabilities[number], first, second, planes)
            for _ in range(iterations):
                _fill_margin(planes, height, width)
                for strip in range(count):
                    columns = min(STRIP, width - strip * STRIP)
                    _average(weights[strip], planes[strip], scale[strip], means[strip], height, columns)
                planes, means = means, planes
            _load(planes, result[number], first, second)
        for row in range(height):
            for column in range(width):
                rest = np.float32(1)
                for index in range(1, classes):
                    rest -= result[number, index, row, column]
                result[number, 0, row, column] = np.float32(0) if rest < 0 else rest


@functools.cache
def kernel() -> Kernel:
    """Returns the compiled refinement of a batch of float32 images, all arrays in C order.

    It is compiled once (about five seconds) and kept on disk: in `__pycache__` beside this file or, where that cannot
    be written, in numba's folder of the user, or in `NUMBA_CACHE_DIR`. Where none of them can be used, it is compiled
    in each process.

    Its arguments:
        probabilities: (B, num_classes, H, W), at least two classes, which sum to 1.
        exponentials: exp(image / contrast) and exp(-image / contrast), (B, 2, H, W).
        iterations: number of iterations.
        result: (B, num_classes, H, W), overwritten.
    """
    # Processors that share a folder have files of their own: numba may mix up files that are written at the same time
    processor = f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"
    _refine.__qualname__ = f"_refine_{hashlib.sha256(processor.encode()).hexdigest()[:8]}"
    images = numba.float32[:, :, :, ::1]
    signature = numba.void(images, images, numba.int64, images)
    settings: Any = {"fastmath": FASTMATH, "error_model": "numpy", "nogil": True}
    try:
        return numba.njit(signature, cache=True, **settings)(_refine)
    except Exception:  # no folder that can be written, no room, a file that cannot be read
        return numba.njit(signature, **settings)(_refine)
