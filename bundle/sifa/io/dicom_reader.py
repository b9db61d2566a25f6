"""Reads a DICOM series a few slices at a time, so that the scan is in memory once."""

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
from sifa.io.dicom_headers import SliceHeader, read_slices, skip_reason
from sifa.utils.errors import InputError

INT16 = np.iinfo(np.int16)
SLICES = 16  # turned at once to the order of memory that tensors have; one at a time takes ten times as long


class SeriesReader(ImageReader):
    """Reads a folder that holds one CT series: slices of a file each, or all in one file.

    Array and affine are those of MONAI's ITKReader, which holds the scan three and a half times where this one holds it
    once, and which takes one series for several where slices differ in a tag as little as `3` and `3.0`.

    - Values are HU, int16 where that holds them all, else float32; rescaled, and unpacked where they are compressed.
    - Slices are sorted along the normal of their plane; the frames of a multi-frame file stay as they are.
    - Of the headers, no text reaches the metadata.

    A folder without DICOM, and all that is no folder, are left to MONAI's other readers.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Tells whether `filename` is one folder."""
        names = ensure_tuple(filename)
        return len(names) == 1 and Path(names[0]).is_dir()

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[SliceHeader]:
        """Reads the headers of a folder's files, but for hidden ones.

        Raises:
            ValueError: when it is no folder or holds no DICOM, so that MONAI's other readers are asked.
        """
        if not self.verify_suffix(data):
            raise ValueError("not a folder")
        files = sorted(file for file in Path(ensure_tuple(data)[0]).iterdir() if not file.name.startswith("."))
        headers = [header for file in files for header in read_slices(file)]
        if not headers:
            raise ValueError("a folder without DICOM")
        return headers

    def get_data(self, img: Sequence[SliceHeader]) -> tuple[np.ndarray, dict[str, Any]]:
        """Reads the voxels; what it raises is final, while `read` would have other readers asked.

        Args:
            img: what `read` returned.

        Returns:
            Voxels (columns, rows, slices), and where they lie: an affine to RAS in mm.

        Raises:
            InputError: when the folder holds no CT series or several, a file is damaged, cut short or cannot be
                decoded, or the slices make no volume.
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
    """Returns the CT slices of a folder, without localizers and the like, or refuses them."""
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
    """Fills a volume (columns, rows, slices) and returns True; stops with False where integers do not hold a value."""
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
        InputError: when there are fewer or others, or they cannot be decoded.
    """
    reader = _open(file)
    with _named(file):
        reader.Update()
    image = reader.GetOutput()
    if reader.GetImageIO().GetNumberOfComponents() != 1:
        raise InputError(f"{file}: its pixels are colors, not one value each: give it the original CT.")
    if tuple(itk.size(image))[::-1] != size:
        raise InputError(f"{file}: its pixels are not as many as its header announces: copy it anew.")
    return image


def _open(file: Path) -> Any:
    return itk.ImageFileReader[itk.Image[itk.F, 3]].New(FileName=str(file), ImageIO=itk.GDCMImageIO.New())


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turns what ITK raises into a sentence that names the file."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"{file}: its pixels cannot be decoded: it is damaged, or compressed in a way that ITK does not know; copy "
            "it anew or export it uncompressed."
        ) from error


def _is_int16(slab: Sequence[np.ndarray]) -> bool:
    """Tells whether all values are whole numbers that 16 bits hold."""
    return all(
        INT16.min <= pixels.min() and pixels.max() <= INT16.max and np.array_equal(pixels, np.rint(pixels))
        for pixels in slab
    )


def _affine(series: CheckedSeries) -> np.ndarray:
    """Returns the affine of a series' volume to RAS in mm: the first slice's, and the mean step between slices."""
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
