"""NIfTI and DICOM, read and written."""

from sifa.io.dicom_reader import SeriesReader
from sifa.io.nifti_reader import ScanReader

__all__ = [
    "ScanReader",
    "SeriesReader",
]
