"""Sampling grids, and shapes as fields of distances in patient coordinates (RAS+, mm)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Vector = npt.NDArray[np.float64]
Random = np.random.Generator

IDENTITY = np.eye(3)


@dataclass(frozen=True)
class Grid:
    """Sampling grid of a subject: voxels per axis, voxel size in mm, 4x4 affine from indices to RAS+ in mm.

    `field_of_view` is the intended extent in mm, which unlike shape * spacing does not depend on the spacing. Slices
    are cut along `slice_axis`.
    """

    shape: tuple[int, int, int]
    spacing: Vector
    affine: Vector
    field_of_view: Vector
    slice_axis: int

    @property
    def thin_slices(self) -> int:
        """Number of thin slices, odd, that one slice averages: 1 where slices are about as thick as pixels are wide."""
        in_plane = np.delete(self.spacing, self.slice_axis).max()
        return 2 * int(self.spacing[self.slice_axis] / (2 * in_plane)) + 1

    def points(self) -> FloatArray:
        """Patient coordinates of the voxel centers."""
        indices = np.indices(self.shape, dtype=np.float32)
        return apply_matrix(self.affine[:3, :3], indices) + column(self.affine[:3, 3])

    def refined(self) -> Grid:
        """Returns the grid of the thin slices; the middle one of each slice has the slice's center."""
        count, axis = self.thin_slices, self.slice_axis
        if count == 1:
            return self
        affine = self.affine.copy()
        affine[:3, axis] /= count
        affine[:3, 3] -= affine[:3, axis] * (count - 1) / 2
        shape, spacing = list(self.shape), self.spacing.copy()
        shape[axis] *= count
        spacing[axis] /= count
        return replace(self, shape=(shape[0], shape[1], shape[2]), spacing=spacing, affine=affine)

    def middle(self, thin: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Returns of values on the refined grid those at the centers of the slices."""
        first = [slice(None)] * 3
        first[self.slice_axis] = slice(self.thin_slices // 2, None, self.thin_slices)
        return thin[tuple(first)]

    def averaged(self, thin: FloatArray) -> FloatArray:
        """Returns the mean over each slice of values on the refined grid, as a scanner measures it."""
        if self.thin_slices == 1:
            return thin
        axis = self.slice_axis
        groups = (*self.shape[:axis], self.shape[axis], self.thin_slices, *self.shape[axis + 1 :])
        return np.asarray(thin.reshape(groups).mean(axis=axis + 1), dtype=np.float32)

    def blur(self, in_plane: float, across: float) -> Vector:
        """Returns the standard deviations of a blur in voxels along the axes, in the plane and across the slices."""
        sigma = np.full(3, in_plane)
        sigma[self.slice_axis] = across
        return sigma

    def noise(self, rng: Random, length: float) -> FloatArray:
        """Smooth random field of unit standard deviation that varies over `length` mm."""
        knots = np.maximum(4, np.round(self.field_of_view / length)).astype(int)
        values = rng.standard_normal(knots)
        for axis, size in enumerate(self.shape):  # cubic splines are separable: one small matrix for each axis
            spline = zoom(np.eye(knots[axis]), (size / knots[axis], 1), mode="nearest", grid_mode=True)
            values = np.moveaxis(np.tensordot(spline, values, axes=(1, axis)), 0, axis)
        return np.asarray(values / values.std(), dtype=np.float32)

    def grain(self, rng: Random, sigma: npt.ArrayLike) -> FloatArray:
        """White noise, blurred by `sigma` voxels along the axes, of unit standard deviation."""
        field = gaussian_filter(rng.standard_normal(self.shape, dtype=np.float32), np.asarray(sigma))
        return np.asarray(field / field.std(), dtype=np.float32)

    def toward_front(self) -> FloatArray:
        """Field that rises from -1 at the patient's back to 1 at the front, along the nearest axis of the grid."""
        axis = int(np.argmax(np.abs(self.affine[1, :3])))
        ramp = np.linspace(-1, 1, self.shape[axis], dtype=np.float32) * np.sign(self.affine[1, axis], dtype=np.float32)
        return np.asarray(np.expand_dims(ramp, [other for other in range(3) if other != axis]))


def column(vector: npt.ArrayLike) -> FloatArray:
    """Reshapes a 3-vector to (3, 1, 1, 1), so that it broadcasts with points."""
    return np.asarray(vector, dtype=np.float32).reshape(3, 1, 1, 1)


def apply_matrix(matrix: Vector, points: FloatArray) -> FloatArray:
    """Applies a 3x3 matrix to points."""
    return np.asarray(np.tensordot(matrix.astype(np.float32), points, axes=1))


def rotation(axis: npt.ArrayLike, angle: float) -> Vector:
    """3x3 matrix of a rotation by `angle` radians about an axis of any length (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def ellipsoid(points: FloatArray, center: npt.ArrayLike, radii: npt.ArrayLike, axes: Vector = IDENTITY) -> FloatArray:
    """Distance to an ellipsoid, exact on its surface only; the columns of the 3x3 `axes` are its directions."""
    local = apply_matrix(axes.T, points - column(center))
    relative = np.sqrt(((local / column(radii)) ** 2).sum(axis=0))
    return np.asarray((relative - 1) * np.min(column(radii)))


def tube(points: FloatArray, nodes: npt.ArrayLike, radius: float) -> FloatArray:
    """Distance to a round tube along a polyline with nodes of shape (N, 3)."""
    squared = np.full(points.shape[1:], np.inf, dtype=np.float32)
    for start, end in pairwise(np.asarray(nodes, dtype=np.float32)):
        direction = end - start
        offset = points - column(start)
        position = np.clip(np.tensordot(direction, offset, axes=1) / (direction @ direction), 0, 1)
        squared = np.minimum(squared, ((offset - column(direction) * position) ** 2).sum(axis=0))
    return np.asarray(np.sqrt(squared) - np.float32(radius))
