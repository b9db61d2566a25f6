"""The file formats of scans and labels, by the endings of their names."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from sifa.utils.errors import InputError

NIFTI_SUFFIXES = (".nii.gz", ".nii")
PAIR_SUFFIXES = {".hdr": ".img", ".img": ".hdr", ".hdr.gz": ".img.gz", ".img.gz": ".hdr.gz"}  # NIfTI in two files
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")  # NRRD and MetaImage
SCAN_SUFFIXES = (*NIFTI_SUFFIXES, *PAIR_SUFFIXES, *ITK_SUFFIXES)
# Formats of volumes that are not read; finding one is reported.
OTHER_SUFFIXES = (
    *(".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip", ".mgz", ".mgh", ".mnc", ".gipl", ".gipl.gz", ".vtk", ".vti"),
    *(".par", ".rec", ".npy", ".npz", ".h5", ".hdf5", ".tif", ".tiff"),
    *(".zip", ".7z", ".tar", ".tgz", ".tar.gz", ".rar"),
)
META_DATA = re.compile(r"^\s*ElementDataFile\s*=\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
NRRD_DATA = re.compile(r"^\s*data ?file:\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
# The line of a header that names the file of the voxels, where they are not in the same file.
DATA_FILE = {".mhd": META_DATA, ".mha": META_DATA, ".nhdr": NRRD_DATA, ".nrrd": NRRD_DATA}
LONGEST_HEADER = 1 << 16  # bytes


def suffix_of(path: Path | str, suffixes: tuple[str, ...] = SCAN_SUFFIXES) -> str:
    """Returns the longest of `suffixes` that a name ends with, in lower case; an empty string where it has none."""
    name = Path(path).name.lower()
    return max((suffix for suffix in suffixes if name.endswith(suffix)), key=len, default="")


def without_suffix(name: str, suffixes: tuple[str, ...] = SCAN_SUFFIXES) -> str:
    """Returns a name without the longest of `suffixes` that it ends with."""
    return name[: len(name) - len(suffix_of(name, suffixes))]


def begins_as_dicom(path: Path) -> bool:
    """Returns whether a file has DICOM's preamble, whatever its name is; False where it cannot be read."""
    if not path.is_file():  # opening a named pipe would wait forever
        return False
    with suppress(OSError), path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
    return False


def is_nifti(path: Path | str) -> bool:
    """Returns whether a path is a file named like NIfTI: `.nii`, `.nii.gz`, `.hdr` or `.img`, in any case."""
    return suffix_of(path, (*NIFTI_SUFFIXES, *PAIR_SUFFIXES)) != "" and not Path(path).is_dir()


def header_and_voxels(path: Path) -> tuple[Path, Path]:
    """Returns the file of a scan's header and that of its voxels, which are the same for most formats.

    Raises:
        InputError: when one of them is missing or is not named.
    """
    suffix = suffix_of(path)
    if suffix in PAIR_SUFFIXES:
        other = _beside(path, f"{path.name[: -len(suffix)]}{PAIR_SUFFIXES[suffix]}")
        if other is None:
            raise InputError(f"{path}: it has no {PAIR_SUFFIXES[suffix]} beside it: copy both files of the pair.")
        return (path, other) if suffix.startswith(".hdr") else (other, path)
    if suffix not in DATA_FILE:
        return path, path
    with path.open("rb") as stream:
        found = DATA_FILE[suffix].findall(stream.read(LONGEST_HEADER).decode("latin-1"))
    if not found or found[-1].lower() == "local":
        return path, path
    if found[-1].split()[0] == "LIST" or "%" in found[-1]:
        raise InputError(f"{path}: its voxels are spread over several files: convert it to NIfTI.")
    voxels = path.parent / found[-1]
    if not voxels.is_file():
        raise InputError(f"{path}: the file of its voxels, {voxels.name}, is missing: copy both files.")
    return path, voxels


def files_of(path: Path) -> list[Path]:
    """Returns all files that a scan consists of: one, or a header and its voxels, or those of a DICOM folder.

    Raises:
        InputError: when one of them is missing or is not named.
    """
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return list(dict.fromkeys(header_and_voxels(path)))


def _beside(path: Path, name: str) -> Path | None:
    """Returns the file of a name in the folder of `path`; where there is none, one of this name in another case."""
    files = [file for file in path.parent.iterdir() if file.name.lower() == name.lower() and file.is_file()]
    return next((file for file in files if file.name == name), min(files, default=None))
