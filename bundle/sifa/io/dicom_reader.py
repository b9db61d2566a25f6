"""Reads a DICOM series a few slices at a time, so that the scan is in memory only once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import itk
import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.data.utils import orientation_ras_lps
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from pydicom.uid import CTImageStorage

from sifa.io.dicom_geometry import CheckedSeries, check_geometry
from sifa.io.dicom_headers import read_slices, skip_reason
from sifa.io.dicom_pixels import named, open_file, read_hu
from sifa.io.dicom_slice import SliceHeader
from sifa.utils.errors import InputError
from sifa.utils.memory import require_memory, scan_memory

INT16 = np.iinfo(np.int16)
SLICES = 16  # copied at once to the memory order of tensors; one at a time takes ten times as long


class SeriesReader(ImageReader):
    """Reads a folder that holds one series of CT or MR: slices of a file each, or frames of one or several files.

    Array and affine equal those of MONAI's ITKReader, which takes three and a half times the memory and splits a series
    whose slices differ in a tag as little as `3` and `3.0`.

    - Values are rescaled, to HU in CT: int16 where that holds all of them, else float32; compressed files are decoded.
      MONOCHROME1, which ITK inverts, is read like MONOCHROME2; frames with slopes of their own are scaled each by its
      own.
    - Slices are sorted along the normal of their plane; frames of one file that lie in order stay as they are.
    - No text of the headers reaches the metadata.

    Files, and folders without DICOM, are left to MONAI's other readers.

    Args:
        modalities: what is read: CT, MR or both; other objects in the folder are passed over.
    """

    def __init__(self, modalities: Sequence[str] = ("CT",)) -> None:
        super().__init__()
        self.modalities = tuple(modalities)

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
            InputError: when the folder holds no such series or several, a file is damaged, cut short or cannot be
                decoded, or the slices do not form a volume.
        """
        series = check_geometry(_slices_of_one_series(img, self.modalities))
        require_memory(img[0].file.parent, scan_memory(series.shape, 2))
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


def _slices_of_one_series(headers: Sequence[SliceHeader], modalities: Sequence[str]) -> list[SliceHeader]:
    """Returns the slices of a folder, without localizers and the like; refuses anything but one whole series."""
    folder, kind = headers[0].file.parent, " or ".join(modalities)
    slices = [header for header in headers if not skip_reason(header, modalities)]
    if not slices:
        reason = skip_reason(headers[0], modalities)
        raise InputError(f"{folder}: it holds no {kind} series ({reason}): give it the original {kind}.")
    for header in slices:
        if header.fault:
            raise InputError(f"{header.file}: {header.fault}")
    series = {header.series for header in slices}
    if len(series) > 1:
        raise InputError(f"{folder}: it holds {len(series)} {kind} series: give each a folder of its own.")
    return slices


def _fill(voxels: np.ndarray, series: CheckedSeries) -> bool:
    """Fills a volume (columns, rows, slices); returns False, and stops, where an integer volume cannot hold a value."""
    numbered = _numbered_slices(series)
    while slab := list(islice(numbered, SLICES)):
        indices, pixels = zip(*slab, strict=True)
        if voxels.dtype == np.int16 and not _is_int16(pixels):
            return False
        in_a_row = list(indices) == list(range(indices[0], indices[0] + len(indices)))
        place = slice(indices[0], indices[0] + len(indices)) if in_a_row else list(indices)
        voxels[:, :, place] = np.stack(pixels, dtype=voxels.dtype, casting="unsafe").T
    return True


def _numbered_slices(series: CheckedSeries) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the pixels (rows, columns) of each slice with its index in the volume; each file is read once."""
    by_file: dict[Path, list[int]] = defaultdict(list)
    for index, header in enumerate(series.slices):
        by_file[header.file].append(index)
    for indices in by_file.values():
        yield from zip(indices, read_hu([series.slices[index] for index in indices]), strict=True)


def _is_int16(slab: Sequence[np.ndarray]) -> bool:
    """Returns whether all values are whole numbers within the range of int16."""
    return all(
        INT16.min <= pixels.min() and pixels.max() <= INT16.max and np.array_equal(pixels, np.rint(pixels))
        for pixels in slab
    )


def _affine(series: CheckedSeries) -> np.ndarray:
    """Returns the affine of a series to RAS in mm: that of the first slice, with the mean distance between slices."""
    first, last = series.slices[0], series.slices[-1]
    affine = np.eye(4)
    if all(header.sop_class == CTImageStorage for header in series.slices):
        reader, _ = open_file(first.file)
        with named(first.file):
            reader.UpdateOutputInformation()
        steps = np.array(reader.GetOutput().GetSpacing())
        steps[2] = series.spacing[2]
        affine[:3, :3] = itk.array_from_matrix(reader.GetOutput().GetDirection()) * steps
        affine[:3, 3] = reader.GetOutput().GetOrigin()
    else:  # ITK knows the place of a file's first frame at most
        for axis, direction in enumerate((first.orientation[:3], first.orientation[3:])):
            affine[:3, axis] = np.array(direction) / np.linalg.norm(direction) * series.spacing[axis]
        affine[:3, 2] = (np.array(last.position) - first.position) / (len(series.slices) - 1)
        affine[:3, 3] = first.position
    return orientation_ras_lps(affine)
