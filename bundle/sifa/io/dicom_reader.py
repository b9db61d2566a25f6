"""Reads a DICOM series a few slices at a time, so that the scan is in memory only once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import itk
import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.data.utils import orientation_ras_lps
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from sifa.io.dicom_geometry import CheckedSeries, check_geometry
from sifa.io.dicom_headers import read_slices, skip_reason
from sifa.io.dicom_slice import SliceHeader
from sifa.utils.errors import InputError

INT16 = np.iinfo(np.int16)
SLICES = 16  # copied at once to the memory order of tensors; one at a time takes ten times as long


class SeriesReader(ImageReader):
    """Reads a folder that holds one CT series: slices of a file each, or all in one file.

    Array and affine equal those of MONAI's ITKReader, which takes three and a half times the memory and splits a series
    whose slices differ in a tag as little as `3` and `3.0`.

    - Values are HU, int16 where that holds all of them, else float32; compressed files are decoded.
    - Slices are sorted along the normal of their plane; the frames of a multi-frame file stay as they are.
    - No text of the headers reaches the metadata.

    Files, and folders without DICOM, are left to MONAI's other readers.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Returns whether `filename` is one folder."""
        names = ensure_tuple(filename)
        return len(names) == 1 and Path(names[0]).is_dir()

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[SliceHeader]:
        """Reads the headers of all files in a folder that are not hidden.

        Raises:
            ValueError: when it is not a folder or holds no DICOM, so that MONAI tries its other readers.
        """
        if not self.verify_suffix(data):
            raise ValueError("not a folder")
        files = sorted(file for file in Path(ensure_tuple(data)[0]).iterdir() if not file.name.startswith("."))
        headers = [header for file in files for header in read_slices(file)]
        if not headers:
            raise ValueError("a folder without DICOM")
        return headers

    def get_data(self, img: Sequence[SliceHeader]) -> tuple[np.ndarray, dict[str, Any]]:
        """Reads the voxels; after an error here, unlike in `read`, MONAI does not try other readers.

        Args:
            img: what `read` returned.

        Returns:
            Voxels (columns, rows, slices), and metadata with the affine to RAS in mm.

        Raises:
            InputError: when the folder holds no CT series or several, a file is damaged, cut short or cannot be
                decoded, or the slices do not form a volume.
        """
        series = check_geometry(_slices_of_one_series(img))
        voxels = np.empty(series.shape, np.int16)
        if not _fill(voxels, series):
            del voxels  # before there is another volume
            voxels = np.empty(series.shape, np.float32)
            _fill(voxels, series)
        affine = _affine(series)
        return voxels, {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(voxels.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),  # none
        }


def _slices_of_one_series(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Returns the CT slices of a folder, without localizers and the like; refuses anything but one whole series."""
    folder = headers[0].file.parent
    slices = [header for header in headers if not skip_reason(header)]
    if not slices:
        raise InputError(f"{folder}: it holds no CT series ({skip_reason(headers[0])}): give it the original CT.")
    for header in slices:
        if header.fault:
            raise InputError(f"{header.file}: {header.fault}")
    series = {header.series for header in slices}
    if len(series) > 1:
        raise InputError(f"{folder}: it holds {len(series)} CT series: give each a folder of its own.")
    return slices


def _fill(voxels: np.ndarray, series: CheckedSeries) -> bool:
    """Fills a volume (columns, rows, slices); returns False, and stops, where an integer volume cannot hold a value."""
    for start, slab in zip(range(0, voxels.shape[2], SLICES), _slabs(series), strict=True):
        if voxels.dtype == np.int16 and not _is_int16(slab):
            return False
        voxels[:, :, start : start + len(slab)] = np.stack([pixels.T for pixels in slab], axis=-1)
    return True


def _slabs(series: CheckedSeries) -> Iterator[list[np.ndarray]]:
    """Yields `SLICES` slices (rows, columns) at a time."""
    columns, rows, slices = series.shape
    size = (slices // len(series.files), rows, columns)
    pixels = (one for file in series.files for one in itk.array_view_from_image(_decode(file, size)))
    while slab := list(islice(pixels, SLICES)):
        yield slab


def _decode(file: Path, size: tuple[int, int, int]) -> Any:
    """Returns the pixels of a file in HU, an ITK image of float32, its axes columns, rows and frames.

    Args:
        file: one slice or several frames.
        size: frames, rows and columns that its header announces.

    Raises:
        InputError: when the file has another size, or cannot be decoded.
    """
    reader = _open(file)
    with _named(file):
        reader.Update()
    image = reader.GetOutput()
    if reader.GetImageIO().GetNumberOfComponents() != 1:
        raise InputError(f"{file}: its pixels are colors, not one value each: give it the original CT.")
    if tuple(itk.size(image))[::-1] != size:
        raise InputError(f"{file}: its pixels are not as many as its header announces: copy it again.")
    return image


def _open(file: Path) -> Any:
    return itk.ImageFileReader[itk.Image[itk.F, 3]].New(FileName=str(file), ImageIO=itk.GDCMImageIO.New())


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turns an error of ITK into an `InputError` that names the file."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"{file}: its pixels cannot be decoded: it is damaged, or compressed in a way that ITK does not know; copy "
            "it again or export it uncompressed."
        ) from error


def _is_int16(slab: Sequence[np.ndarray]) -> bool:
    """Returns whether all values are whole numbers within the range of int16."""
    return all(
        INT16.min <= pixels.min() and pixels.max() <= INT16.max and np.array_equal(pixels, np.rint(pixels))
        for pixels in slab
    )


def _affine(series: CheckedSeries) -> np.ndarray:
    """Returns the affine of a series to RAS in mm: that of the first slice, with the mean distance between slices."""
    reader = _open(series.files[0])
    with _named(series.files[0]):
        reader.UpdateOutputInformation()
    first = reader.GetOutput()
    steps = np.array(first.GetSpacing())
    if len(series.files) > 1:
        steps[2] = series.spacing[2]
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(first.GetDirection()) * steps
    affine[:3, 3] = first.GetOrigin()
    return orientation_ras_lps(affine)
