"""Reads NRRD and MetaImage files (`.nrrd`, `.nhdr`, `.mha`, `.mhd`) with ITK."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itk
import numpy as np
import numpy.typing as npt
from monai.data.utils import orientation_ras_lps

from sifa.io.formats import LONGEST_HEADER, files_of, suffix_of
from sifa.utils.errors import InputError

NRRD_SPACE = re.compile(rb"^space:\s*(left|right)-(posterior|anterior)-superior|^space:\s*(LPS|RAS|LAS)", re.M | re.I)
META_AXES = re.compile(rb"^\s*(TransformMatrix|Rotation|Orientation)\s*=", re.MULTILINE)
# Fields that ITK ignores: another unit of length than mm, and a scale of the values.
UNITS = re.compile(rb'^\s*DistanceUnits\s*=\s*(?!mm)(\S+)|^space units:\s*(?!"mm")(\S+)', re.MULTILINE)
SCALE = re.compile(
    rb"^\s*ElementToIntensityFunction(Offset\s*=\s*(?!-?0*\.?0*\s*$)|Slope\s*=\s*(?!1(\.0*)?\s*$))\S+", re.MULTILINE
)
COMPRESSED = re.compile(rb"^\s*CompressedData\s*=\s*True|^encoding:\s*(gz|bz)", re.MULTILINE | re.IGNORECASE)
WHOLE = ("unsigned_char", "char", "unsigned_short", "short")  # ITK's names of integers of at most 16 bits


@dataclass(frozen=True)
class ITKHeader:
    """What the header of a file says; no voxel has been read."""

    path: Path
    shape: tuple[int, ...]  # axes of length 1 after the third are left out
    affine: npt.NDArray[np.float64]  # to RAS in mm
    components: int  # values of a voxel
    pixel: str  # ITK's name of the type of a component
    is_oriented: bool  # whether it says how its axes lie in the patient
    is_compressed: bool

    @property
    def voxel_bytes(self) -> int:
        """Bytes of a voxel in the file."""
        widths = {"double": 8, "long": 8, "unsigned_long": 8, "long_long": 8, "unsigned_long_long": 8}
        short = {"unsigned_char": 1, "char": 1, "unsigned_short": 2, "short": 2}
        return self.components * {**widths, **short}.get(self.pixel, 4)


def read_itk_header(path: Path) -> ITKHeader:
    """Reads the header of a file.

    Raises:
        InputError: when it cannot be read, or the file of its voxels is missing.
    """
    files_of(path)
    io = _image_io(path)
    axes = io.GetNumberOfDimensions()
    sizes = [io.GetDimensions(axis) for axis in range(axes)]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    affine = np.eye(4)
    for axis in range(min(axes, 3)):
        affine[:3, axis][: min(axes, 3)] = np.array(io.GetDirection(axis))[:3] * io.GetSpacing(axis)
        affine[axis, 3] = io.GetOrigin(axis)
    with path.open("rb") as stream:
        text = stream.read(LONGEST_HEADER)
    for pattern, what in ((UNITS, "a unit of length other than mm"), (SCALE, "a scale of its values")):
        if pattern.search(text) is not None:
            raise InputError(f"{path}: its header gives {what}, which is not supported: convert it to NIfTI.")
    says = NRRD_SPACE if suffix_of(path) in (".nrrd", ".nhdr") else META_AXES
    return ITKHeader(
        path=path,
        shape=tuple(sizes),
        affine=orientation_ras_lps(affine),
        components=io.GetNumberOfComponents(),
        pixel=io.GetComponentTypeAsString(io.GetComponentType()),
        is_oriented=says.search(text) is not None,
        is_compressed=COMPRESSED.search(text) is not None,
    )


def require_volume(header: ITKHeader) -> None:
    """Refuses a file that is no volume of one number a voxel.

    Raises:
        InputError: when its voxels are colors or vectors, or it has another number of dimensions than three.
    """
    if header.components != 1:
        raise InputError(f"{header.path}: its voxels are colors or vectors, not one value each: convert it.")
    if len(header.shape) != 3:
        raise InputError(f"{header.path}: it has {len(header.shape)} dimensions, a scan has 3: convert or split it.")


def read_itk_voxels(header: ITKHeader) -> npt.NDArray[Any]:
    """Reads the voxels of a file: (X, Y, Z), int16 where the file holds integers that fit, else float32.

    Raises:
        InputError: when they cannot be read, or are not one number each.
    """
    path = header.path
    require_volume(header)
    exact = header.pixel in ("unsigned_char", "char", "short")
    reader = itk.ImageFileReader[itk.Image[itk.SS if exact else itk.F, 3]].New(FileName=str(path))
    reader.SetImageIO(_image_io(path))
    try:
        reader.Update()
    except RuntimeError as error:
        raise InputError(f"{path}: its voxels cannot be read: it is damaged or cut short; copy it again.") from error
    voxels = itk.array_view_from_image(reader.GetOutput()).T
    if voxels.shape != header.shape:
        raise InputError(f"{path}: it has {voxels.shape} voxels, its header declares {header.shape}: copy it again.")
    int16 = np.iinfo(np.int16)
    if header.pixel in WHOLE and not exact and int16.min <= voxels.min() and voxels.max() <= int16.max:
        return voxels.astype(np.int16, order="C")
    return np.array(voxels, order="C")


def _image_io(path: Path) -> Any:
    """Returns the ITK reader of a file's format, which has read its header."""
    kind = itk.NrrdImageIO if suffix_of(path) in (".nrrd", ".nhdr") else itk.MetaImageIO
    io = kind.New()
    io.SetFileName(str(path))
    if not io.CanReadFile(str(path)):
        raise InputError(f"{path}: it cannot be read as {suffix_of(path)}: replace it.")
    try:
        io.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path}: its header cannot be read: it is damaged or cut short; copy it again.") from error
    return io
