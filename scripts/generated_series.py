"""A generated CT of any number of slices, a body with noise in air, for benchmarks; and its DICOM series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

PIXELS = 512
SPACING = (0.8, 0.8, 1.0)  # mm: rows, columns, slices


def body_slices(count: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yields slices (512, 512) in HU: an elliptic body of 40 HU with noise that contains a brighter, curved cylinder.

    Args:
        count: of slices.
    """
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:PIXELS, :PIXELS] - PIXELS // 2
    body = np.where((columns / 220) ** 2 + (rows / 160) ** 2 < 1, 40, -1000)
    noise = generator.normal(0, 20, (8, PIXELS, PIXELS))
    for index in range(count):
        bright = ((columns - 30 * np.sin(index / 60)) / 60) ** 2 + (rows / 60) ** 2 < 1
        yield body + noise[index % len(noise)] + 200 * bright


def write_series(folder: Path, slices: int) -> None:
    """Writes an uncompressed series of 512 x 512 pixels, a file a slice.

    Args:
        folder: where the files go; it is created.
        slices: how many.
    """
    folder.mkdir(parents=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for index, values in enumerate(body_slices(slices)):
        pixels = (values + 1024).round().clip(0).astype(np.uint16)
        dicom, dicom.file_meta = Dataset(), FileMetaDataset()
        dicom.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dicom.file_meta.MediaStorageSOPClassUID = dicom.SOPClassUID = CTImageStorage
        dicom.file_meta.MediaStorageSOPInstanceUID = dicom.SOPInstanceUID = generate_uid()
        dicom.StudyInstanceUID, dicom.SeriesInstanceUID, dicom.FrameOfReferenceUID = study, series, frame
        dicom.Modality, dicom.PatientPosition, dicom.InstanceNumber = "CT", "HFS", index + 1
        dicom.Rows = dicom.Columns = PIXELS
        dicom.PixelSpacing = list(SPACING[:2])
        dicom.SliceThickness = SPACING[2]
        dicom.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dicom.ImagePositionPatient = [0, 0, index * SPACING[2]]
        dicom.SamplesPerPixel, dicom.PhotometricInterpretation = 1, "MONOCHROME2"
        dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation = 16, 16, 15, 0
        dicom.RescaleSlope, dicom.RescaleIntercept = 1, -1024
        dicom.PixelData = pixels.tobytes()
        dicom.save_as(folder / f"{index:06}.dcm", enforce_file_format=True)
