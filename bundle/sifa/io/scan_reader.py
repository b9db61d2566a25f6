"""Reads scans and labels from files: NIfTI, NRRD and MetaImage, whole, on the grid of their headers."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from monai.config import PathLike
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImage
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from nibabel.arrayproxy import ArrayProxy

from sifa.io.dicom_reader import SeriesReader
from sifa.io.formats import is_nifti, suffix_of
from sifa.io.itk_files import read_itk_header, read_itk_voxels
from sifa.io.nifti_files import nifti_affine, open_nifti, require_numbers, without_trailing_ones
from sifa.utils.errors import InputError, find_input_error, first_line, innermost
from sifa.utils.memory import require_memory, scan_memory

INT16 = np.iinfo(np.int16)
SLICES = 16  # read at once
CHUNK = 1 << 20  # bytes
ROUNDING = 1e-3  # a label this close to a whole number is that number


class ScanReader(ImageReader):
    """MONAI reader of single scan files, with little memory.

    - NIfTI (`.nii`, `.nii.gz`, pairs of `.hdr` and `.img`) and, through ITK, NRRD and MetaImage; suffixes in any case.
    - Values are int16 where that holds all of them, as in CT, else float32. NIfTI is copied to the memory order of
      tensors a few slices at a time; MONAI's reader holds the scan twice, and four times where it is scaled.
    - A compressed NIfTI file is read to its end, where the checksum is.
    - The grid of NIfTI is nibabel's, sform before qform; MONAI takes the qform where the sform contradicts `pixdim`.
    - Affines are to RAS in mm, even where a NIfTI header gives meters or microns.
    - Axes of length 1 after the third are left out.

    Other files are left to MONAI's other readers.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Returns whether `filename` is one file of these formats, by its name."""
        names = ensure_tuple(filename)
        return len(names) == 1 and suffix_of(names[0]) != "" and not Path(names[0]).is_dir()

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Path:
        """Returns the path of the file.

        Raises:
            ValueError: when it is something else, so that MONAI tries its other readers.
        """
        if not self.verify_suffix(data):
            raise ValueError("not a NIfTI, NRRD or MetaImage file")
        return Path(ensure_tuple(data)[0])

    def get_data(self, img: Path) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Reads the voxels; after an error here, unlike in `read`, MONAI does not try other readers.

        Args:
            img: what `read` returned.

        Returns:
            Voxels (X, Y, Z), or (X, Y, Z, C) of a file with several channels, and metadata with the affine.

        Raises:
            InputError: when the header cannot be used, or the scan does not fit into memory.
            OSError, EOFError, zlib.error: when the file is cut short or its checksum is wrong.
        """
        voxels, affine = _read_file(img)
        return voxels, {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(voxels.shape[:3]),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if voxels.ndim > 3 else float("nan"),  # NaN: none
        }


def load_image(path: str | Path) -> MetaTensor:
    """Returns an image (X, Y, Z), float32, as training reads it: a scan file, or a folder of one CT or MR series.

    Anything else is read by MONAI's readers.
    """
    image = LoadImage(reader=[SeriesReader(("CT", "MR")), ScanReader()], image_only=True)(path)
    assert isinstance(image, MetaTensor)
    return image


def load_label(path: str | Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Returns a label (X, Y, Z) and its affine to RAS in mm; values that are whole but for rounding are rounded.

    Raises:
        InputError: when the file cannot be read, is not 3-D, or holds values that are not whole.
    """
    try:
        values, affine = _read(Path(path))
    except Exception as error:
        if (known := find_input_error(error)) is not None:
            raise InputError(str(known)) from error
        reason = first_line(innermost(error))
        raise InputError(f"{path}: it cannot be read as a label ({reason}): replace it.") from error
    if values.ndim != 3:
        raise InputError(f"{path}: it has {values.ndim} dimensions, a label has 3: convert or split it.")
    if values.dtype.kind in "iu":
        return values.astype(np.int64), affine
    if not np.isfinite(values).all():
        raise InputError(f"{path}: it holds NaN or infinite values: replace it.")
    whole = np.rint(values)
    away = np.abs(values - whole)
    if away.max(initial=0) > ROUNDING:
        worst = float(values.flat[int(away.argmax())])
        raise InputError(
            f"{path}: it holds the value {worst:g}, which is not whole: labels are numbers of structures; resample "
            "them with nearest-neighbor interpolation."
        )
    return whole.astype(np.int64), affine


def _read(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Returns voxels and the affine of a scan file, or of anything that MONAI's readers read."""
    if ScanReader().verify_suffix(path):
        return _read_file(path)
    image = load_image(path)
    return image.numpy(), np.asarray(image.affine, dtype=np.float64)


def _read_file(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    return _read_nifti(path) if is_nifti(path) else _read_itk(path)


def _read_nifti(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    image = open_nifti(path, keep_file_open=True)
    require_numbers(image, path)
    is_whole = _is_whole(image)
    shape = without_trailing_ones(image.shape)
    require_memory(path, scan_memory(shape, 2 if is_whole else 4))
    voxels = np.empty(image.shape, np.int16 if is_whole else np.float32)  # C order, as tensors have it
    with _stored(image, path) as stored:
        for slab in _slabs(image.shape):
            part = stored[slab]
            if voxels.dtype == np.int16 and not (INT16.min <= part.min() and part.max() <= INT16.max):
                voxels = voxels.astype(np.float32)
            voxels[slab] = part
    return voxels.reshape(shape), nifti_affine(image)


@contextmanager
def _stored(image: nib.Nifti1Pair, path: Path) -> Iterator[Any]:
    """Yields the voxels of a file, to be read slab by slab; a compressed file is read to its end, its checksum."""
    proxy: Any = image.dataobj
    if not path.name.lower().endswith(".gz"):
        yield proxy
        return
    with gzip.open(path) as stream:
        yield ArrayProxy(stream, (image.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter))
        while stream.read(CHUNK):
            pass


def _read_itk(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    header = read_itk_header(path)
    require_memory(path, scan_memory(header.shape, header.voxel_bytes + 4))
    return read_itk_voxels(header), header.affine


def _slabs(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yields ranges of the third axis; one range where there is no third axis or it is empty."""
    depth = shape[2] if len(shape) > 2 else 0
    for start in range(0, depth, SLICES):
        yield (slice(None), slice(None), slice(start, start + SLICES))
    if not depth:
        yield (slice(None),) * min(len(shape), 2)


def _is_whole(image: nib.Nifti1Pair) -> bool:
    """Returns whether a file holds whole numbers of at most 16 bits, before and after scaling."""
    proxy: Any = image.dataobj
    stored, scaling = image.get_data_dtype(), (proxy.slope, proxy.inter)
    return stored.kind in "iu" and stored.itemsize <= 2 and all(float(number).is_integer() for number in scaling)
