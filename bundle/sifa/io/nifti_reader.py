"""Reads NIfTI scans: once, to the end of the file, on the grid of their headers."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor, NibabelReader
from monai.transforms import LoadImage
from monai.utils import ensure_tuple
from nibabel.filebasedimages import ImageFileError

from sifa.utils.errors import InputError, first_line


def load_nifti(path: Path | str) -> nib.Nifti1Image:
    """Opens a NIfTI file; only its header is read.

    Raises:
        InputError: if the file cannot be read or is not a volume of three dimensions.
    """
    try:
        image = nib.load(path)
    except (OSError, EOFError, ImageFileError) as error:
        raise InputError(f"{path} cannot be read as NIfTI ({first_line(error)}): replace the file.") from error
    if not isinstance(image, nib.Nifti1Image):
        raise InputError(f"{path} is not a NIfTI file: replace the file.")
    if len(image.shape) != 3:
        raise InputError(f"{path} has the shape {image.shape}, not three dimensions: replace the file.")
    return image


MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # by the code in `xyzt_units`: meter, millimeter, micrometer
INT16 = np.iinfo(np.int16)
SLICES = 16  # read at once
CHUNK = 1 << 20  # bytes


class ScanReader(NibabelReader):
    """MONAI's NIfTI reader, stricter and with less memory.

    - Values are int16 where that holds all of them, as in CT, else float32. They are copied to the memory order of
      tensors a few slices at a time; MONAI's reader holds the scan twice, and four times where it is scaled.
    - A compressed file is read to its end, where the checksum is.
    - The grid is nibabel's, sform before qform; MONAI takes the qform where the sform contradicts `pixdim`.
    - Affines are in mm, even where the header gives meters or microns.

    Files that are not NIfTI are left to MONAI's other readers.
    """

    def read(self, data: Any, **kwargs: Any) -> Any:
        """Opens `.nii` or `.nii.gz` files.

        Raises:
            ValueError: when one is something else, so that MONAI tries its other readers.
        """
        if not self.verify_suffix(data):
            raise ValueError("not a NIfTI file")
        self.filenames = ensure_tuple(data)
        images = [nib.load(name, keep_file_open=True) for name in self.filenames]
        return images if len(images) > 1 else images[0]

    def _get_affine(self, img: nib.Nifti1Image) -> np.ndarray:
        return np.diag([*[mm_per_unit(img.header)] * 3, 1.0]) @ img.affine

    def _get_array_data(self, img: nib.Nifti1Image, filename: str) -> np.ndarray:
        """Returns the voxels; after an error here, unlike in `read`, MONAI does not try other readers.

        Raises:
            OSError, EOFError, zlib.error: when the file is cut short or its checksum is wrong.
        """
        voxels = np.empty(img.shape, np.int16 if _is_whole(img) else np.float32)  # C order, as tensors have it
        for slab in _slabs(img.shape):
            part = img.dataobj[slab]
            if voxels.dtype == np.int16 and not (INT16.min <= part.min() and part.max() <= INT16.max):
                voxels = voxels.astype(np.float32)
            voxels[slab] = part
        if filename.lower().endswith(".gz"):
            with gzip.open(filename) as stream:
                while stream.read(CHUNK):
                    pass
        return voxels


def load_image(path: str | Path) -> MetaTensor:
    """Returns an image (X, Y, Z), float32, as training and inference read it.

    NIfTI is read by `ScanReader`, anything else by MONAI's readers.
    """
    image = LoadImage(reader=ScanReader(), image_only=True)(path)
    assert isinstance(image, MetaTensor)
    return image


def _slabs(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yields ranges of the third axis; one range where there is no third axis or it is empty."""
    depth = shape[2] if len(shape) > 2 else 0
    for start in range(0, depth, SLICES):
        yield (slice(None), slice(None), slice(start, start + SLICES))
    if not depth:
        yield (slice(None),) * min(len(shape), 2)


def _is_whole(image: nib.Nifti1Image) -> bool:
    """Returns whether a file holds whole numbers of at most 16 bits, before and after scaling."""
    proxy: Any = image.dataobj
    stored, scaling = image.get_data_dtype(), (proxy.slope, proxy.inter)
    return stored.kind in "iu" and stored.itemsize <= 2 and all(float(number).is_integer() for number in scaling)


def mm_per_unit(header: nib.Nifti1Header) -> float:
    """Returns the length unit of a NIfTI header in mm; 1 where the header has none."""
    return MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
