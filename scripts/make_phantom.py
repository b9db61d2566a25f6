"""Generates a cardiac phantom data set: unpaired MR and CT of procedurally drawn hearts, with labels.

Every subject has a different heart, drawn in patient coordinates (RAS+, mm) and sampled on a grid of its own: spacing,
field of view, tilt and storage orientation vary, so that positions are known only through the NIfTI affine. No
patient data is involved, and nothing learned from these images says anything about patients.

Usage:
    python scripts/make_phantom.py OUTPUT_DIR --seed 0 --spacing 2.0 --workers 2  (--help lists all options)

OUTPUT_DIR then holds dataset.json (MR source, CT target), supervised.json (the same CT with all its labels: the upper
bound), and the folders mr_images, mr_labels, ct_images, ct_labels (of validation and test) and ct_training_labels.

Conventions in the code: points are float32 arrays of shape (3, X, Y, Z) in mm; fields, distances (in mm, negative
inside), masks, tissues and images have shape (X, Y, Z), the axes pointing to the patient's right, front and top.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from command_line import run_command_line
from dataset_folder import open_output_dir, write_nifti
from scipy.ndimage import gaussian_filter, zoom
from sifa.utils.errors import InputError
from sifa.utils.files import write_json
from tqdm import tqdm

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Tissues = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float64]
Random = np.random.Generator

LABELS = {
    "0": "background",
    "1": "left ventricle myocardium",
    "2": "left atrium blood cavity",
    "3": "left ventricle blood cavity",
    "4": "ascending aorta",
}
FIELD_OF_VIEW = np.array([150.0, 96.0, 150.0])  # mm: left-right, anterior-posterior, superior-inferior
FIELD_CENTER = np.array([0.0, -4.0, 0.0])  # mm
ORIENTATIONS = ("RAS", "LPS", "LAS", "RPI", "LIP", "RSA", "PIR", "ASL", "PSR", "SRA", "IPL", "SAL")
IDENTITY = np.eye(3)


class Part(IntEnum):
    """The lists of the data set; the value enters the random seed, the name is that of a command-line option."""

    SOURCE_TRAINING = 0
    SOURCE_VALIDATION = 1
    TARGET_TRAINING = 2
    TARGET_VALIDATION = 3
    TARGET_TEST = 4


class Tissue(IntEnum):
    """What a voxel is made of, with mean and standard deviation over subjects of the MR signal and the CT number.

    MR: fat is about 0.9; for blood, from `LEFT_VENTRICLE` on, a factor on the subject's blood signal.
    CT: HU; for blood, what is added to the subject's contrast level of the left or right heart.
    """

    mr: tuple[float, float]
    ct: tuple[float, float]

    AIR = 0, (0.03, 0.01), (-1000, 0)
    FAT = 1, (0.88, 0.08), (-100, 8)
    MUSCLE = 2, (0.30, 0.04), (55, 8)
    LUNG = 3, (0.07, 0.02), (-830, 25)
    LUNG_VESSEL = 4, (0.35, 0.10), (-50, 100)
    LIVER = 5, (0.42, 0.06), (95, 15)
    STOMACH = 6, (0.55, 0.15), (75, 35)
    BONE = 7, (0.10, 0.03), (480, 60)
    MARROW = 8, (0.48, 0.08), (190, 40)
    PERICARDIAL_FAT = 9, (0.80, 0.08), (-85, 10)
    MYOCARDIUM = 10, (0.36, 0.04), (105, 12)
    RIGHT_WALL = 11, (0.36, 0.04), (105, 12)
    LEFT_VENTRICLE = 12, (1.00, 0.00), (0, 15)
    LEFT_ATRIUM = 13, (0.95, 0.05), (0, 15)
    PULMONARY_VEIN = 14, (0.95, 0.05), (0, 15)
    ASCENDING_AORTA = 15, (0.88, 0.08), (0, 15)
    DESCENDING_AORTA = 16, (0.85, 0.10), (-5, 15)  # with the arch
    RIGHT_VENTRICLE = 17, (0.95, 0.06), (0, 15)
    RIGHT_ATRIUM = 18, (0.92, 0.06), (0, 20)
    PULMONARY_ARTERY = 19, (0.80, 0.10), (20, 20)
    VENA_CAVA = 20, (0.85, 0.10), (275, 130)

    def __new__(cls, value: int, mr: tuple[float, float], ct: tuple[float, float]) -> Tissue:
        """Creates an integer member with its contrasts as attributes."""
        member = int.__new__(cls, value)
        member._value_, member.mr, member.ct = value, mr, ct
        return member


LEFT_BLOOD = [tissue for tissue in Tissue if Tissue.LEFT_VENTRICLE <= tissue <= Tissue.DESCENDING_AORTA]
RIGHT_BLOOD = [tissue for tissue in Tissue if tissue >= Tissue.RIGHT_VENTRICLE]
LABEL_VALUES = np.zeros(len(Tissue), dtype=np.uint8)
LABEL_VALUES[[Tissue.MYOCARDIUM, Tissue.LEFT_ATRIUM, Tissue.LEFT_VENTRICLE, Tissue.ASCENDING_AORTA]] = (1, 2, 3, 4)
Layer = tuple[Tissue, BoolArray]


@dataclass(frozen=True)
class Subject:
    """One person, scanned once."""

    part: Part
    index: int

    @property
    def modality(self) -> str:
        """Name of the modality, mr for the source and ct for the target."""
        return "mr" if self.part in (Part.SOURCE_TRAINING, Part.SOURCE_VALIDATION) else "ct"

    def path(self, kind: str) -> str:
        """Path of the "image" or "label" in the data set; CT labels hidden from adaptation have their own folder."""
        apart = "training_" if kind == "label" and self.part is Part.TARGET_TRAINING else ""
        purpose = self.part.name.split("_")[1].lower()
        return f"{self.modality}_{apart}{kind}s/{self.modality}_{purpose}_{self.index:03d}.nii.gz"


@dataclass(frozen=True)
class Grid:
    """Sampling grid of a subject: voxels per axis, voxel size in mm, 4x4 affine from indices to RAS+ in mm.

    `field_of_view` is the intended extent in mm, which unlike shape * spacing does not depend on the spacing.
    """

    shape: tuple[int, int, int]
    spacing: Vector
    affine: Vector
    field_of_view: Vector

    def points(self) -> FloatArray:
        """Patient coordinates of the voxel centers."""
        indices = np.indices(self.shape, dtype=np.float32)
        return apply_matrix(self.affine[:3, :3], indices) + column(self.affine[:3, 3])

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


def draw_grid(rng: Random, spacing: float) -> Grid:
    """Draws coronal slices, up to 1.6 pixels apart and in about half of the subjects tilted by up to five degrees."""
    pixel = spacing * rng.uniform(0.9, 1.1)
    voxel = np.array([pixel, pixel * rng.uniform(1.0, 1.6), pixel])
    field_of_view = FIELD_OF_VIEW * rng.uniform(0.97, 1.05, 3)
    center = FIELD_CENTER + rng.uniform(-3, 3, 3)
    angle = np.deg2rad(rng.uniform(1, 5)) * rng.integers(2)
    x, y, z = (int(size) for size in np.round(field_of_view / voxel))
    affine = np.eye(4)
    affine[:3, :3] = rotation(rng.standard_normal(3), angle) @ np.diag(voxel)
    affine[:3, 3] = center - affine[:3, :3] @ (np.array([x, y, z]) - 1) / 2
    return Grid((x, y, z), voxel, affine, field_of_view)


def trunk_layers(points: FloatArray, grid: Grid, rng: Random) -> list[Layer]:
    """Body wall, lungs, mediastinum, upper abdomen and bones; later layers cover earlier ones."""
    x, y, z = points
    body = (x / rng.normal(150, 8)) ** 2 + ((y + 5) / rng.normal(92, 5)) ** 2  # 1 on the skin
    dome = rng.normal(-52, 6)
    right_side = ellipsoid(points, (82 + rng.normal(0, 3), -8, 10), (62, 74, 115)) < 0
    left_side = ellipsoid(points, (-84 + rng.normal(0, 3), -8, 10), (58, 74, 115)) < 0
    below_right = z <= dome + 12 - 0.004 * ((x - 70) ** 2 + y**2)
    below_left = z <= dome - 0.004 * ((x + 70) ** 2 + y**2)
    below_middle = (z <= dome + 8 - 0.004 * ((x - 40) ** 2 + y**2)) & (x > -25) & (body < 0.78)
    lungs = (right_side & ~below_right) | (left_side & ~below_left)
    # Two noise fields are near zero together along curves only: thread-like vessels that branch.
    vessels = lungs & (np.hypot(grid.noise(rng, 14), grid.noise(rng, 14)) < 0.35)
    spine = np.hypot(x - rng.normal(0, 3), y + 58) - rng.normal(20, 1.5)
    disk = np.mod(z + rng.uniform(0, 28), 28) < 6
    rib = (np.mod(z + 0.35 * np.abs(x) + rng.uniform(0, 26), 26) < 8) & (np.abs(x) > 30)
    cage = (body > 0.60) & (body < rng.uniform(0.74, 0.80))
    return [
        (Tissue.FAT, body < 1),
        (Tissue.MUSCLE, body < rng.uniform(0.78, 0.88)),
        (Tissue.LUNG, lungs),
        (Tissue.LUNG_VESSEL, vessels),
        (Tissue.STOMACH, left_side & below_left & (x < -20)),
        (Tissue.PERICARDIAL_FAT, tube(points, [(0, 5, 20), (0, 5, 120)], 36) < 0),
        (Tissue.LIVER, (right_side & below_right) | below_middle),
        (Tissue.BONE, (spine < 0) | (cage & rib)),
        (Tissue.MARROW, (spine < -3) | (cage & (np.abs(x) < 16) & (y > 0))),  # vertebrae and sternum
        (Tissue.MUSCLE, (spine < 0) & disk),
        (Tissue.AIR, tube(points, [(0, -18, 45), (0, -20, 120)], 8) < 0),  # trachea
    ]


@dataclass(frozen=True)
class LeftVentricle:
    """Center of the valve plane, unit vector to the apex, and distances to cavity and wall, not yet cut at the base."""

    base: Vector
    axis: Vector
    cavity: FloatArray
    wall: FloatArray


def draw_left_ventricle(heart: FloatArray, rng: Random) -> LeftVentricle:
    """Draws two nested ellipsoids whose axis points to the left, front and bottom."""
    axis = np.array([-0.66, 0.50, -0.56]) + rng.normal(0, 0.07, 3)
    axis /= np.linalg.norm(axis)
    across = np.cross(axis, [0, 0, 1])
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(axis, across), axis], axis=1)
    center, radius, length = np.array([-20, 4, -14]), rng.normal(21.5, 2), rng.normal(43, 3)
    radii = np.array([radius, radius, length])
    cavity = ellipsoid(heart, center, radii, axes)
    wall = ellipsoid(heart, center, radii + np.clip(rng.normal(10, 1.3), 7.5, 13), axes)
    return LeftVentricle(center - axis * rng.uniform(0.35, 0.50) * length, axis, cavity, wall)


def right_heart_layers(heart: FloatArray, ventricle: LeftVentricle, rng: Random) -> list[Layer]:
    """Fat around the heart, right ventricle and atrium, superior vena cava and pulmonary arteries."""
    fat = ellipsoid(heart, (-8, 0, -8), (62, 50, 70), rotation((0, 1, 0), 0.4))
    center = np.array([10, 24, -8]) + rng.normal(0, 2, 3)
    right = ellipsoid(heart, center, np.array([27, 24, 36]) * rng.normal(1, 0.05), rotation((0, 1, 0), -0.5))
    atrium_center = np.array([42, -6, -8]) + rng.normal(0, 2, 3)
    atrium = ellipsoid(heart, atrium_center, np.array([22, 24, 30]) * rng.normal(1, 0.06))
    cava = tube(heart, atrium_center + np.array([(-2, -4, 20), (-4, -2, 100)]), 8)
    root, bend, fork, left_end, right_end = center + np.array(
        [(-18, 2, 30), (-26, -2, 48), (-24, -12, 60), (-62, -28, 60), (32, -26, 58)]
    )
    branches = tube(heart, [left_end, fork, right_end], 9)
    artery = np.minimum(tube(heart, [root, bend, fork], rng.normal(13, 1)), branches)
    return [
        (Tissue.PERICARDIAL_FAT, fat < 0),
        (Tissue.RIGHT_WALL, right < 3),
        (Tissue.MUSCLE, atrium < 2),
        (Tissue.RIGHT_ATRIUM, atrium < 0),
        (Tissue.RIGHT_VENTRICLE, (right < 0) & (ventricle.wall > 0)),
        (Tissue.PERICARDIAL_FAT, (artery < 2) & (right > 3)),
        (Tissue.PULMONARY_ARTERY, artery < 0),
        (Tissue.VENA_CAVA, cava < 0),
    ]


def left_heart_layers(heart: FloatArray, ventricle: LeftVentricle, grid: Grid, rng: Random) -> list[Layer]:
    """Left atrium with two veins, aorta up to the arch, and the left ventricle, cut at its base, over all."""
    center = ventricle.base - ventricle.axis * rng.normal(17, 1.5) + np.array([4, -12, 4]) + rng.normal(0, 1.5, 3)
    radii = np.array([26, 19, 22]) * rng.normal(1, 0.06, 3)
    atrium = ellipsoid(heart, center, radii, rotation(rng.standard_normal(3), 0.2))
    veins = tube(heart, center + np.array([(-50, -12, 8), (0, 0, 0), (50, -12, 8)]), 6)
    path = np.array([(12, 10, 10), (20, 13, 26), (22, 14, 48), (16, 10, 64), (6, -4, 74), (-6, -26, 72)])
    nodes = ventricle.base + path + rng.normal(0, 1.5, (6, 3))
    radius = rng.normal(13.5, 1.3)
    ascending = tube(heart, nodes[:4], radius)
    arch = tube(heart, [*nodes[3:], (-22, -48, 40)], 0.88 * radius)
    is_arch = heart[2] > nodes[3, 2] + 2
    is_ventricle = np.tensordot(ventricle.axis, heart - column(ventricle.base), axes=1) > 0
    papillary = 1.3 * grid.noise(rng, 14)
    return [
        (Tissue.MUSCLE, atrium < 2),
        (Tissue.PULMONARY_VEIN, veins < 0),
        (Tissue.LEFT_ATRIUM, atrium + grid.noise(rng, 22) < 0),
        (Tissue.MUSCLE, ascending < 1.5),
        (Tissue.DESCENDING_AORTA, (arch < 0) | ((ascending < 0) & is_arch)),
        (Tissue.ASCENDING_AORTA, (ascending < 0) & ~is_arch),
        (Tissue.MYOCARDIUM, is_ventricle & (ventricle.wall < 0)),
        (Tissue.LEFT_VENTRICLE, is_ventricle & (ventricle.cavity + papillary < 0)),
    ]


def draw_tissues(grid: Grid, rng: Random) -> Tissues:
    """Draws a subject's anatomy and samples it on the grid."""
    warp = np.stack([grid.noise(rng, 27) for _ in range(3)])
    points = grid.points() + warp * np.float32(rng.uniform(1.5, 3.5))
    pose = rotation(rng.standard_normal(3), np.deg2rad(rng.normal(0, 6)))
    scale = np.clip(rng.normal(1, 0.07), 0.88, 1.12) * rng.normal(1, 0.05, 3)
    heart = apply_matrix(pose.T, points - column(rng.normal(0, (5, 4, 6)))) / column(scale)
    ventricle = draw_left_ventricle(heart, rng)
    descending = tube(points, [(-27 - rng.normal(0, 3), -50, 60), (-24, -46, -120)], rng.normal(11.5, 1))
    layers = [
        *trunk_layers(points, grid, rng),
        *right_heart_layers(heart, ventricle, rng),
        *left_heart_layers(heart, ventricle, grid, rng),
        (Tissue.DESCENDING_AORTA, (descending < 0) & (ventricle.wall > 0)),
    ]
    tissues = np.full(grid.shape, Tissue.AIR, dtype=np.uint8)
    for tissue, mask in layers:
        tissues[mask] = tissue
    return tissues


def render_mr(tissues: Tissues, grid: Grid, rng: Random) -> npt.NDArray[np.int16]:
    """Renders tissues as an MR image in arbitrary units: zero or more, on a scale of 200 to 1200."""
    levels = np.array([rng.normal(*tissue.mr) for tissue in Tissue])
    levels[Tissue.PULMONARY_VEIN] = levels[Tissue.LEFT_ATRIUM]
    levels[LEFT_BLOOD + RIGHT_BLOOD] *= rng.normal(0.78, 0.06)
    signal = np.maximum(levels, 0.02).astype(np.float32)[tissues] * (1 + 0.07 * grid.noise(rng, 6))
    slow_flow = np.clip(grid.noise(rng, 12), 0, 2) * np.isin(tissues, LEFT_BLOOD + RIGHT_BLOOD)
    signal = gaussian_filter(signal * (1 - 0.18 * slow_flow), (0.6, rng.uniform(0.3, 0.7), 0.6))
    depth = np.linspace(-1, 1, grid.shape[1], dtype=np.float32)[None, :, None]
    bias = np.exp(0.25 * grid.noise(rng, 38) + 0.25 * depth)  # of a coil on the chest
    signal = signal * bias
    axis = int(rng.choice([0, 2]))  # of phase encoding, along which faint copies are shifted
    for _ in range(2):
        shift = round(grid.shape[axis] * rng.uniform(1 / 6, 1 / 3))
        signal = signal + rng.uniform(0.03, 0.10) * np.roll(signal, shift, axis)
    real, imaginary = rng.uniform(0.03, 0.06) * rng.standard_normal((2, *grid.shape), dtype=np.float32)
    magnitude = np.hypot(signal + real, imaginary)  # of complex noise: Rician
    return np.asarray(np.round(magnitude * rng.uniform(200, 1200)), dtype=np.int16)


def render_ct(tissues: Tissues, grid: Grid, rng: Random) -> npt.NDArray[np.int16]:
    """Renders tissues as CT in HU, -1024 to 1500, with contrast in the left heart and less of it in the right."""
    levels = np.array([rng.normal(*tissue.ct) for tissue in Tissue])
    levels[Tissue.PULMONARY_VEIN] = levels[Tissue.LEFT_ATRIUM]
    levels[LEFT_BLOOD] += np.clip(rng.normal(340, 45), 240, 440)
    levels[RIGHT_BLOOD] += rng.uniform(70, 230)
    is_bone = np.isin(tissues, (Tissue.BONE, Tissue.MARROW))
    is_mixing = np.isin(tissues, (Tissue.RIGHT_VENTRICLE, Tissue.RIGHT_ATRIUM))
    image = levels.astype(np.float32)[tissues]
    image += 70 * is_bone * grid.noise(rng, 3) + 40 * is_mixing * grid.noise(rng, 19)
    image = gaussian_filter(image, (0.6, 0.5, 0.6))
    image += streaks(tissues == Tissue.VENA_CAVA, levels[Tissue.VENA_CAVA], grid, rng)
    image += rng.uniform(18, 45) * grid.grain(rng, (0.6, 0.6, 0.3)) * (1 + 0.5 * (image > -500))
    image += rng.uniform(4, 14) * grid.grain(rng, (12 / grid.spacing[0], 0, 0.5))  # lines from arm to arm
    return np.asarray(np.round(np.clip(image, -1024, 1500)), dtype=np.int16)


def streaks(source: BoolArray, level: float, grid: Grid, rng: Random) -> FloatArray:
    """Streaks in HU that radiate within the axial planes from contrast of more than 350 HU; `source` is its mask."""
    phase, rays = rng.uniform(0, 2 * np.pi, grid.shape[2]), rng.integers(5, 9, grid.shape[2])
    area = source.sum(axis=(0, 1))
    x, y = (np.indices(grid.shape[:2]) * grid.spacing[:2, None, None])[..., None]
    right = x - (x * source).sum(axis=(0, 1)) / np.maximum(area, 1)
    front = y - (y * source).sum(axis=(0, 1)) / np.maximum(area, 1)
    strength = 0.35 * (level - 250) * (level > 350) * (area > 0)
    waves = np.cos(rays * np.arctan2(front, right) + phase) * np.exp(-np.hypot(right, front) / 38)
    return np.asarray(strength * waves, dtype=np.float32)


def save_volume(path: Path, values: npt.NDArray[Any], affine: Vector, orientation: str) -> None:
    """Writes a volume as NIfTI (mm, sform and qform), its axes permuted and flipped to an orientation like "LPS"."""
    codes = nib.orientations.axcodes2ornt
    transform = nib.orientations.ornt_transform(codes("RAS"), codes(orientation))
    volume = nib.Nifti1Image(values, affine).as_reoriented(transform)
    volume.set_sform(volume.affine, code="scanner")
    volume.set_qform(volume.affine, code="scanner")
    volume.header.set_xyzt_units("mm")
    write_nifti(volume, path)


def write_subject(subject: Subject, seed: int, spacing: float, folder: Path) -> None:
    """Draws a subject, with a random stream each for grid, anatomy and image, and writes its two files to a folder."""
    streams = np.random.SeedSequence((seed, subject.part, subject.index)).spawn(3)
    grid_rng, anatomy_rng, image_rng = (np.random.default_rng(stream) for stream in streams)
    orientation = str(grid_rng.choice(ORIENTATIONS))
    grid = draw_grid(grid_rng, spacing)
    tissues = draw_tissues(grid, anatomy_rng)
    render = render_mr if subject.modality == "mr" else render_ct
    save_volume(folder / subject.path("image"), render(tissues, grid, image_rng), grid.affine, orientation)
    save_volume(folder / subject.path("label"), LABEL_VALUES[tissues], grid.affine, orientation)


def write_descriptions(subjects: Sequence[Subject], name: str, folder: Path, labeled_target: int = 0) -> None:
    """Writes supervised.json, and dataset.json last, which marks a complete folder.

    The first `labeled_target` CT subjects to adapt to are also listed with their labels.
    """
    pairs: dict[Part, list[dict[str, str]]] = {part: [] for part in Part}
    for subject in subjects:
        pairs[subject.part].append({kind: subject.path(kind) for kind in ("image", "label")})
    unlabeled = [{"image": pair["image"]} for pair in pairs[Part.TARGET_TRAINING]]
    mr = {"modality": "MR", "training": pairs[Part.SOURCE_TRAINING], "validation": pairs[Part.SOURCE_VALIDATION]}
    labeled_ct = {"modality": "CT", "training": pairs[Part.TARGET_TRAINING]}
    measured_ct = {"modality": "CT", "validation": pairs[Part.TARGET_VALIDATION], "test": pairs[Part.TARGET_TEST]}
    supervised = {"name": f"{name}, upper bound trained on labeled CT", "source": labeled_ct, "target": measured_ct}
    labeled = {"labeled": pairs[Part.TARGET_TRAINING][:labeled_target]} if labeled_target else {}
    target = {"modality": "CT", "training": unlabeled, **labeled, **measured_ct}
    adaptation = {"name": name, "source": mr, "target": target}
    for file, content in (("supervised.json", supervised), ("dataset.json", adaptation)):
        write_json(folder / file, {"name": content["name"], "slice_plane": "coronal", "labels": LABELS, **content})


def check_options(spacing: object, integers: dict[str, object]) -> None:
    """Checks the range of the spacing and that each integer option is an integer and large enough."""
    low, high = 0.5, 6.0  # mm
    if isinstance(spacing, bool) or not isinstance(spacing, int | float) or not low <= spacing <= high:
        raise InputError(f"--spacing is {spacing!r}: give a number from {low} to {high} mm.")
    for name, value in integers.items():
        smallest = 1 if name in ("workers", "source_training", "target_training") else 0
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
            raise InputError(f"--{name} is {value!r}: give a whole number of at least {smallest}.")


def make_phantom(
    output_dir: str,
    *,
    seed: int = 0,
    source_training: int = 16,
    source_validation: int = 2,
    target_training: int = 16,
    target_validation: int = 2,
    target_test: int = 6,
    labeled_target: int = 0,
    spacing: float = 2.0,
    workers: int = 2,
    overwrite: bool = False,
) -> None:
    """Generates a cardiac phantom data set: unpaired MR and CT of procedurally drawn hearts, with labels.

    Args:
        output_dir: Folder to write to, new or empty.
        seed: Zero or more; the same seed gives the same files.
        source_training: Number of labeled MR subjects to train on.
        source_validation: Number of labeled MR subjects to measure on.
        target_training: Number of CT subjects to adapt to.
        target_validation: Number of labeled CT subjects to measure on while training.
        target_test: Number of labeled CT subjects for the final measurement.
        labeled_target: Number of the CT subjects to adapt to that are listed with labels as well, in target.labeled.
        spacing: Voxel size in mm, 0.5 to 6, that the subjects' own spacings scatter around.
        workers: Number of processes, each with one thread.
        overwrite: Replace files of the same name in output_dir.

    Raises:
        InputError: If an option or the folder is not as expected.
    """
    counts = (source_training, source_validation, target_training, target_validation, target_test)
    sizes = {part.name.lower(): count for part, count in zip(Part, counts, strict=True)}
    check_options(spacing, {"seed": seed, "workers": workers, "labeled_target": labeled_target, **sizes})
    if labeled_target > target_training:
        raise InputError(f"--labeled_target is {labeled_target}: give at most --target_training, {target_training}.")
    subjects = [Subject(part, index) for part in Part for index in range(sizes[part.name.lower()])]
    folder = Path(str(output_dir))
    open_output_dir(folder, bool(overwrite))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # read by the new processes when they import numpy
    with ProcessPoolExecutor(min(workers, len(subjects)), mp_context=get_context("spawn")) as pool:
        work = partial(write_subject, seed=seed, spacing=spacing, folder=folder)
        list(tqdm(pool.map(work, subjects), total=len(subjects), unit="subject"))
    name = f"Generated heart phantom, not patients (seed {seed}, {spacing:g} mm)"
    write_descriptions(subjects, name, folder, labeled_target)
    print(f"Wrote {folder / 'dataset.json'}: {len(subjects)} subjects.")


if __name__ == "__main__":
    run_command_line(make_phantom)
