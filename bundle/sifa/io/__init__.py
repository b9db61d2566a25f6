"""Scans, labels and masks: NIfTI, NRRD, MetaImage and DICOM."""

from sifa.io.dicom_reader import SeriesReader
from sifa.io.scan_reader import ScanReader

__all__ = [
    "ScanReader",
    "SeriesReader",
]
