"""NIfTI files as users have them: opened, or refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
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
