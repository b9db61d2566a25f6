"""Opens NIfTI files: converts units of length to mm and normalizes quaternions that rounding made too long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.fileholders import FileHolder
from nibabel.quaternions import fillpositive

from sifa.io.formats import header_and_voxels
from sifa.utils.errors import InputError, first_line

MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # by the code in `xyzt_units`: meter, millimeter, micrometer
LONGEST_QUATERNION = 1.01  # squared length of (b, c, d) up to which it is taken for rounding


def unit_quaternion(header: nib.Nifti1Header) -> npt.NDArray[np.float64]:
    """Returns b, c, d of a header's quaternion, at most of length 1.

    Rounding to float32 can make it slightly longer than 1; ITK then normalizes it, and nibabel raises an error.
    """
    quaternion = np.array([float(header[f"quatern_{part}"]) for part in "bcd"])
    squared = float(np.sum(quaternion**2))
    return quaternion / np.sqrt(squared) if 1 < squared <= LONGEST_QUATERNION else quaternion


class _LenientHeader(nib.Nifti1Header):
    def get_qform_quaternion(self) -> npt.NDArray[np.float64]:
        return np.asarray(fillpositive(unit_quaternion(self), self.quaternion_threshold))


class _LenientHeader2(nib.Nifti2Header):
    get_qform_quaternion = _LenientHeader.get_qform_quaternion


class _LenientPairHeader(nib.nifti1.Nifti1PairHeader):
    get_qform_quaternion = _LenientHeader.get_qform_quaternion


class _Nifti1(nib.Nifti1Image):
    header_class = _LenientHeader


class _Nifti2(nib.Nifti2Image):
    header_class = _LenientHeader2


class _Pair(nib.Nifti1Pair):
    header_class = _LenientPairHeader


def open_nifti(path: Path | str, **options: bool) -> nib.Nifti1Pair:
    """Opens a NIfTI file, or a pair of `.hdr` and `.img`; only its header is read.

    Args:
        path: the file.
        **options: passed on to nibabel: `keep_file_open`.

    Raises:
        InputError: when it cannot be read, or is another format, such as Analyze 7.5.
    """
    header, voxels = (FileHolder(str(file)) for file in header_and_voxels(Path(path)))
    sniff = None
    try:
        for kind in (_Nifti1, _Nifti2, _Pair):
            fits, sniff = kind.path_maybe_image(path, sniff)
            if fits:
                return _checked(kind.from_file_map({"header": header, "image": voxels}, **options), path)
        other = type(nib.load(path)).__name__
    except InputError:
        raise
    except Exception as error:  # a damaged header fails in many ways
        raise InputError(f"{path}: it cannot be read as NIfTI ({first_line(error)}): replace the file.") from error
    if other.startswith("Spm") or other == "AnalyzeImage":
        raise InputError(f"{path}: its format, Analyze 7.5, does not say which side is left: convert it to NIfTI.")
    raise InputError(f"{path}: it is not a NIfTI file: replace it.")


def _checked(image: nib.Nifti1Pair, path: Path | str) -> nib.Nifti1Pair:
    """Refuses a single file whose header says that its voxels begin within the header."""
    proxy: Any = image.dataobj
    if image.header.is_single and proxy.offset < image.header.single_vox_offset:
        raise InputError(
            f"{path}: its header says that the voxels begin at byte {proxy.offset} (vox_offset), within the "
            f"header itself: correct it, usually to {image.header.single_vox_offset}."
        )
    return image


def load_nifti(path: Path | str) -> nib.Nifti1Pair:
    """Opens a NIfTI file of three dimensions; only its header is read.

    Raises:
        InputError: when it cannot be read or has another number of dimensions.
    """
    image = open_nifti(path)
    if len(image.shape) != 3:
        raise InputError(f"{path} has the shape {image.shape}, not three dimensions: replace the file.")
    return image


def require_numbers(image: nib.Nifti1Pair, path: Path | str) -> None:
    """Refuses voxels that are not one real number each.

    Raises:
        InputError: when they are complex numbers or colors.
    """
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path}: its voxels are complex numbers or colors, not one value each: convert it.")


def mm_per_unit(header: nib.Nifti1Header) -> float:
    """Returns the length unit of a NIfTI header in mm; 1 where the header has none."""
    return MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)


def nifti_affine(image: nib.Nifti1Pair) -> npt.NDArray[np.float64]:
    """Returns the affine of a NIfTI file to RAS in mm: sform before qform, whatever unit the header counts in."""
    return np.asarray(np.diag([*[mm_per_unit(image.header)] * 3, 1.0]) @ image.affine)


def without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a shape without axes of length 1 after the third."""
    kept = list(shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    return tuple(kept)
