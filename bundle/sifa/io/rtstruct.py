"""Writes a mask as a DICOM RT Structure Set (RTSTRUCT): closed contours on the slices of its series.

The library rt-utils is not used: its last release is of January 2023, it needs OpenCV, and its contours run through the
centers of the outermost pixels, so that structures lose half a pixel on every side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from scipy import ndimage

from sifa.io.contours import outlines
from sifa.io.dicom_source import (
    MANUFACTURER,
    UTF_8,
    check_mask,
    frame_of_reference,
    long_string,
    make_item,
    read_source,
)
from sifa.io.terminology import GENERIC, Terms
from sifa.utils.files import temporary_beside

SERIES_NUMBER = 9001  # beside that of DICOM SEG
CONTOUR_DATA = Tag("ContourData")
DECIMALS = 3  # of coordinates in mm
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, retired, which RTSTRUCT still names studies by
# Elements that are copied from the series; those that it lacks are empty.
COPIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


def write_rtstruct(
    mask: npt.ArrayLike,
    affine: npt.ArrayLike,
    files: Iterable[Path | str],
    labels: Mapping[int, str],
    path: Path | str,
    model: str,
    version: str,
    terms: Mapping[int, Terms],
    colors: Mapping[int, str],
) -> None:
    """Writes a mask as one RTSTRUCT with a region of interest (ROI) for each structure, empty ones included.

    Contours run midway between the centers of the pixels inside and those outside; a hole is joined to the contour
    around it by a channel of no width. The pixel values of the source are not read.

    Args:
        mask: labels (X, Y, Z) on the grid that MONAI's `LoadImaged` gives for the series: columns, rows, slices.
        affine: (4, 4), voxel indices to mm, right, anterior and superior being positive.
        files: every file of the series, one a slice, in any order.
        labels: name of each label; 0, the background, is ignored.
        path: the object; its folder is created.
        model: name of the model, cut to 64 characters.
        version: its version, likewise.
        terms: codes by label.
        colors: `#rrggbb` by label.

    Raises:
        InputError: when a file is not DICOM or lacks elements that the object refers to, or the mask is not on the grid
            of the series.
    """
    voxels = np.asarray(mask)
    structures = {label: name for label, name in labels.items() if label != 0}
    check_mask(voxels, structures)
    headers = read_source(files, np.asarray(affine, dtype=np.float64), voxels.shape)
    frame = frame_of_reference(headers)
    dataset = _head(headers, frame, model, version)
    boxes = dict(enumerate(ndimage.find_objects(voxels), start=1))
    dataset.StructureSetROISequence = [
        make_item(
            ROINumber=label,
            ReferencedFrameOfReferenceUID=frame,
            ROIName=long_string(name),
            ROIGenerationAlgorithm="AUTOMATIC",
        )
        for label, name in structures.items()
    ]
    dataset.ROIContourSequence = [
        _region(label, colors[label], list(_contours(voxels, label, boxes.get(label), headers))) for label in structures
    ]
    dataset.RTROIObservationsSequence = [_observation(label, terms[label]) for label in structures]
    with temporary_beside(Path(path)) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _head(headers: Sequence[pydicom.Dataset], frame: str, model: str, version: str) -> pydicom.Dataset:
    """Returns the object without its regions: patient, study, series, equipment and what it refers to."""
    first, now = headers[0], datetime.now()
    first.decode()  # the object is written in UTF-8
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # explicit VR limits a contour to 64 kB
    dataset.SpecificCharacterSet = UTF_8
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    for keyword in COPIED:
        if keyword in first:
            dataset.add(first[keyword])
        else:
            setattr(dataset, keyword, "")
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = "RTSTRUCT", generate_uid(), SERIES_NUMBER
    dataset.SeriesDescription, dataset.OperatorsName = long_string(f"Segmentation by {model}"), ""
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, long_string(model)
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = long_string(version), "0"
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frame, ""
    dataset.StructureSetLabel, dataset.StructureSetName = "SEGMENTATION", long_string(model)
    dataset.StructureSetDate, dataset.StructureSetTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    dataset.ApprovalStatus = "UNAPPROVED"
    series = make_item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=[_image(one) for one in headers])
    study = make_item(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    dataset.ReferencedFrameOfReferenceSequence = [
        make_item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])
    ]
    return dataset


def _image(header: pydicom.Dataset) -> pydicom.Dataset:
    return make_item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _region(label: int, color: str, contours: list[pydicom.Dataset]) -> pydicom.Dataset:
    region = make_item(ROIDisplayColor=list(bytes.fromhex(color[1:])), ReferencedROINumber=label)
    if contours:
        region.ContourSequence = contours
    return region


def _contours(
    voxels: npt.NDArray[Any], label: int, box: tuple[slice, ...] | None, headers: Sequence[pydicom.Dataset]
) -> Iterator[pydicom.Dataset]:
    """Yields the contours of a structure, slice by slice.

    Args:
        voxels: labels (X, Y, Z).
        label: of the structure.
        box: around it; None: it is empty.
        headers: of the slices, in the same order.
    """
    if box is None:
        return
    columns, rows, slices = box
    for number in range(slices.start, slices.stop):
        plane = voxels[columns, rows, number].T
        for outline in outlines(plane == label):
            points = _in_patient(outline + np.array([columns.start, rows.start]), headers[number])
            contour = make_item(
                ContourImageSequence=[_image(headers[number])],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
            )
            contour[CONTOUR_DATA] = _decimal_strings(points)
            yield contour


def _decimal_strings(points: npt.NDArray[np.float64]) -> RawDataElement:
    """Returns the coordinates of a contour as they stand in the file; pydicom would check each for 10 microseconds."""
    text = "\\".join([f"{value:.{DECIMALS}f}" for value in points.ravel()]).encode()
    value = text + b" " * (len(text) % 2)
    return RawDataElement(CONTOUR_DATA, "DS", len(value), value, 0, True, True)


def _in_patient(points: npt.NDArray[np.float64], header: pydicom.Dataset) -> npt.NDArray[np.float64]:
    """Returns points of a slice, (N, 2) in columns and rows, in mm of the patient (LPS), (N, 3)."""
    along_row, along_column = np.asarray(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = map(float, header.PixelSpacing)
    steps = np.stack([along_row * between_columns, along_column * between_rows])
    placed: npt.NDArray[np.float64] = np.asarray(header.ImagePositionPatient, dtype=np.float64) + points @ steps
    return placed.round(DECIMALS) + 0.0  # not -0.0


def _observation(label: int, terms: Terms) -> pydicom.Dataset:
    kind = _code(terms.type)
    if terms.modifier is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [_code(terms.modifier)]
    is_anatomy = terms.category.value in {code.value for code in GENERIC.values()}
    return make_item(
        ObservationNumber=label,
        ReferencedROINumber=label,
        SegmentedPropertyCategoryCodeSequence=[_code(terms.category)],
        RTROIIdentificationCodeSequence=[kind],
        RTROIInterpretedType="ORGAN" if is_anatomy else "",
        ROIInterpreter="",
    )


def _code(code: Code) -> pydicom.Dataset:
    return make_item(CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning)
