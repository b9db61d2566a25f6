"""Who is scanned, with what, and where the files go: the parts of a data set, its anatomies and modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from dataset_folder import write_nifti

from phantoms import abdomen, heart, short_axis
from phantoms.computed_tomography import ABDOMEN_NOISE, HEART_NOISE, heart_levels, portal_levels, render_ct
from phantoms.geometry import Grid, Random, Vector
from phantoms.magnetic_resonance import SEQUENCES, render_mr
from phantoms.scan_grids import axial_grid, coronal_grid, heart_turn, short_axis_grid
from phantoms.tissues import ABDOMEN_TISSUES, HEART_TISSUES, SHORT_AXIS_TISSUES, Tissues

ORIENTATIONS = ("RAS", "LPS", "LAS", "RPI", "LIP", "RSA", "PIR", "ASL", "PSR", "SRA", "IPL", "SAL")
NAMES = {"bssfp": "BSSFP", "lge": "LGE", "mr_t1": "T1", "mr_t2": "T2", "ct": "CT"}  # of modalities, in dataset.json


@dataclass(frozen=True)
class Anatomy:
    """What is scanned."""

    labels: Mapping[str, str]
    slice_plane: str
    modalities: tuple[str, ...]  # that show it; the first two are the default source and target


ANATOMIES = {
    "heart": Anatomy(heart.LABELS, "coronal", ("bssfp", "ct", "lge")),
    "abdomen": Anatomy(abdomen.LABELS, "axial", ("mr_t2", "ct", "mr_t1")),
    "short_axis": Anatomy(short_axis.LABELS, "acquired", ("bssfp", "lge", "mr_t2")),
}


class Part(IntEnum):
    """The lists of the data set; the value enters the random seed, the name is that of a command-line option."""

    SOURCE_TRAINING = 0
    SOURCE_VALIDATION = 1
    TARGET_TRAINING = 2
    TARGET_VALIDATION = 3
    TARGET_TEST = 4

    @property
    def is_source(self) -> bool:
        """Whether its subjects belong to the source."""
        return self in (Part.SOURCE_TRAINING, Part.SOURCE_VALIDATION)


@dataclass(frozen=True)
class Task:
    """An anatomy, and the modalities of source and target, by the names of the command line."""

    anatomy: str
    source: str
    target: str

    @property
    def is_mr_and_ct(self) -> bool:
        """Whether one of the modalities is CT, so that MR names the other one."""
        return "ct" in (self.source, self.target)

    def folder(self, part: Part) -> str:
        """Beginning of the names of folders and files: mr or ct; the sequence where both domains are MR."""
        modality = self.modality(part)
        return "mr" if self.is_mr_and_ct and modality != "ct" else modality

    def modality(self, part: Part) -> str:
        """The modality of a part, by its name on the command line."""
        return self.source if part.is_source else self.target

    def modality_name(self, part: Part) -> str:
        """The modality of a part, as dataset.json has it."""
        return "MR" if self.folder(part) == "mr" else NAMES[self.modality(part)]


@dataclass(frozen=True)
class Subject:
    """One person, scanned once."""

    task: Task
    part: Part
    index: int

    def path(self, kind: str) -> str:
        """Path of the "image" or "label" in the data set; labels hidden from adaptation have their own folder."""
        apart = "training_" if kind == "label" and self.part is Part.TARGET_TRAINING else ""
        purpose, folder = self.part.name.split("_")[1].lower(), self.task.folder(self.part)
        return f"{folder}_{apart}{kind}s/{folder}_{purpose}_{self.index:03d}.nii.gz"


def write_subject(subject: Subject, seed: int, spacing: float, folder: Path) -> None:
    """Draws a subject, with a random stream each for grid, anatomy and image, and writes its two files to a folder."""
    streams = np.random.SeedSequence((seed, subject.part, subject.index)).spawn(3)
    grid_rng, anatomy_rng, image_rng = (np.random.default_rng(stream) for stream in streams)
    orientation = str(grid_rng.choice(ORIENTATIONS))
    modality = subject.task.modality(subject.part)
    draw = {"heart": _scan_heart, "abdomen": _scan_abdomen, "short_axis": _scan_short_axis}[subject.task.anatomy]
    grid, image, label = draw(modality, spacing, grid_rng, anatomy_rng, image_rng)
    save_volume(folder / subject.path("image"), image, grid.affine, orientation)
    save_volume(folder / subject.path("label"), label, grid.affine, orientation)


Scan = tuple[Grid, npt.NDArray[np.int16], Tissues]  # with the label


def _scan_heart(modality: str, spacing: float, grid_rng: Random, anatomy_rng: Random, image_rng: Random) -> Scan:
    grid = coronal_grid(grid_rng, spacing)
    thin = heart.draw_tissues(grid.refined(), anatomy_rng)
    shown = HEART_TISSUES
    if modality == "ct":
        image = render_ct(thin, grid, heart_levels(shown, image_rng), HEART_NOISE, image_rng)
    else:
        image = render_mr(thin, grid, SEQUENCES[modality], shown, image_rng)
    return grid, image, heart.LABEL_VALUES[grid.middle(thin)]


def _scan_abdomen(modality: str, spacing: float, grid_rng: Random, anatomy_rng: Random, image_rng: Random) -> Scan:
    grid = axial_grid(grid_rng, spacing, modality)
    thin = abdomen.draw_tissues(grid.refined(), anatomy_rng)
    shown = ABDOMEN_TISSUES
    if modality == "ct":
        image = render_ct(thin, grid, portal_levels(shown, image_rng), ABDOMEN_NOISE, image_rng)
    else:
        image = render_mr(thin, grid, SEQUENCES[modality], shown, image_rng)
    return grid, image, abdomen.label_values(grid.middle(thin), grid)


def _scan_short_axis(modality: str, spacing: float, grid_rng: Random, anatomy_rng: Random, image_rng: Random) -> Scan:
    turn = heart_turn(grid_rng)
    grid = short_axis_grid(grid_rng, spacing, modality, turn)
    thin = short_axis.draw_tissues(grid.refined(), anatomy_rng, turn)
    image = render_mr(thin, grid, SEQUENCES[modality], SHORT_AXIS_TISSUES, image_rng)
    return grid, image, short_axis.LABEL_VALUES[grid.middle(thin)]


def save_volume(path: Path, values: npt.NDArray[Any], affine: Vector, orientation: str) -> None:
    """Writes a volume as NIfTI (mm, sform and qform).

    Its axes are permuted and flipped as those of a volume with the orientation RAS are to become `orientation`, such as
    "LPS".
    """
    codes = nib.orientations.axcodes2ornt
    transform = nib.orientations.ornt_transform(codes("RAS"), codes(orientation))
    volume = nib.Nifti1Image(values, affine).as_reoriented(transform)
    volume.set_sform(volume.affine, code="scanner")
    volume.set_qform(volume.affine, code="scanner")
    volume.header.set_xyzt_units("mm")
    write_nifti(volume, path)
