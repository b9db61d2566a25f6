"""Which axes of a volume are rows, columns and slices: those of an anatomical plane, or those that were acquired."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np

# nibabel axis codes: the directions in which the row, column and slice indices increase. Rows and columns are in the
# order of the radiological display, so images need no rotation.
AXCODES = {
    "axial": "PLS",  # rows from anterior to posterior, columns from right to left, slices from inferior to superior
    "coronal": "ILP",  # rows from superior to inferior, columns from right to left, slices from anterior to posterior
    "sagittal": "IPL",  # rows from superior to inferior, columns from anterior to posterior, slices from right to left
}
ACQUIRED = "acquired"  # in the place of a plane, and of axis codes: each scan's own slices
PLANES = (*AXCODES, ACQUIRED)

COARSEST = 1.1  # ratio to the next coarser axis from which the coarsest axis of a scan is taken for that of its slices
# Directions in RAS.
VIEWER = np.array([-1.0, 1.0, -1.0]) / np.sqrt(3)  # left, front and feet: the sides that radiologists look from
FEET, LEFT = np.array([0.0, 0.0, -1.0]), np.array([-1.0, 0.0, 0.0])
DECIMALS = 6  # of directions: rounding must not decide


def slice_turn(affine: np.ndarray, orientation: str) -> np.ndarray:
    """Returns how a volume is turned into slices, as nibabel's orientations do.

    Args:
        affine: (4, 4), from voxel indices to RAS coordinates in mm.
        orientation: axis codes (nibabel) of rows, columns and slices, or `acquired`.

    Returns:
        (3, 2): for each axis of the volume, whether it becomes the rows (0), columns (1) or slices (2), and whether its
        direction stays (1) or is reversed (-1).
    """
    if orientation == ACQUIRED:
        return _acquired_turn(affine)
    wanted = nib.orientations.axcodes2ornt(tuple(orientation))
    turn: np.ndarray = nib.orientations.ornt_transform(nib.io_orientation(affine), wanted)
    return turn


def slice_axis(affine: np.ndarray) -> int:
    """Returns the axis of a volume along which its slices follow each other, as they were acquired.

    It is the axis with the largest voxels. Where none is a tenth coarser than the others, the scan does not tell, and
    it is the axis nearest to the patient's long axis, so that slices are axial.
    """
    sizes = nib.affines.voxel_sizes(affine)
    coarsest = int(np.argmax(sizes))
    if sizes[coarsest] >= COARSEST * np.delete(sizes, coarsest).max():
        return coarsest
    return int(np.argmax(np.abs(affine[2, :3]) / sizes))


def view_direction(affine: np.ndarray, orientation: str) -> np.ndarray:
    """Returns the direction (3,), in RAS, from a slice toward the viewer: rows x columns."""
    directions = affine[:3, :3] / nib.affines.voxel_sizes(affine)
    turn = slice_turn(affine, orientation)
    rows, columns = (directions[:, axis] * turn[axis, 1] for axis in np.argsort(turn[:, 0])[:2])
    return np.cross(rows, columns)


def _acquired_turn(affine: np.ndarray) -> np.ndarray:
    """Turns the acquired slices to one view, whatever the storage order.

    Slices are looked at from the side that is nearer to the patient's left, front and feet, which is the convention for
    axial (from the feet), coronal (from the front), sagittal (from the left) and short-axis slices (from the apex).
    Of the four ways to hold such a slice, that one is taken whose rows run most to the feet and whose columns run most
    to the patient's left, by the sum of both cosines. The result changes only where a stack is about 45 degrees off a
    convention: it is stable around all of the four, also for double-oblique stacks, for which the codes of the nearest
    axes are not.
    """
    directions = affine[:3, :3] / nib.affines.voxel_sizes(affine)
    depth = slice_axis(affine)
    viewer = max((directions[:, depth], -directions[:, depth]), key=_nearness_of_viewer)
    in_plane = [axis for axis in range(3) if axis != depth]
    best: tuple[float, ...] = ()
    turn = np.zeros((3, 2))
    for (row, column), signs in product(permutations(in_plane), product((1, -1), repeat=2)):
        rows, columns = directions[:, row] * signs[0], directions[:, column] * signs[1]
        if np.cross(rows, columns) @ viewer < 0:
            continue  # the slice seen from behind
        score = (_rounded(rows @ FEET + columns @ LEFT), *map(_rounded, rows))
        if score > best:
            best = score
            turn[[row, column]] = [(0, signs[0]), (1, signs[1])]
    turn[depth] = (2, -1 if directions[:, depth] @ viewer > 0 else 1)  # away from the viewer
    return turn


def _nearness_of_viewer(direction: np.ndarray) -> tuple[float, ...]:
    return (_rounded(direction @ VIEWER), *map(_rounded, direction * np.sign(VIEWER)))


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)
