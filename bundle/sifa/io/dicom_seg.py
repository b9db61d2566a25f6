"""Writes a mask as a DICOM SEG object, which an archive files with the series that it was made from.

Only this module needs `highdicom`, which is not among the bundle's requirements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from monai.utils import optional_import
from pydicom.sr.coding import Code

from sifa.io.dicom_source import MANUFACTURER, UTF_8, check_mask, frame_of_reference, long_string, read_source
from sifa.io.terminology import Terms, structure_terms
from sifa.utils.errors import InputError
from sifa.utils.files import temporary_beside

highdicom, has_highdicom = optional_import("highdicom")

ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
SERIES_NUMBER = 9000  # far from the scanner's own

# These may be empty, and some series lack them.
MAY_BE_EMPTY = ("PatientID", "PatientName", "AccessionNumber", "StudyID", "ReferringPhysicianName")
# As above; highdicom also refuses values such as the date 19450000, which de-identification leaves behind.
TAKEN_AS_THEY_ARE = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")


def require_highdicom() -> None:
    """Checks that DICOM SEG can be written; call it before the first scan.

    Raises:
        InputError: when highdicom is not installed.
    """
    if not has_highdicom:
        raise InputError("DICOM SEG needs the package highdicom, which is not installed: pip install highdicom.")


def write_dicom_seg(
    mask: npt.ArrayLike,
    affine: npt.ArrayLike,
    files: Iterable[Path | str],
    labels: Mapping[int, str] | Mapping[str, str],
    path: Path | str,
    model: str,
    version: str,
    terms: Mapping[int, Terms] | None = None,
    values: Mapping[int, int] | None = None,
) -> None:
    """Writes a mask as one DICOM SEG object with a binary segment for each structure, empty ones included.

    DICOM numbers segments 1, 2, ...; where masks hold other values, the description of a segment gives its value.

    The pixel values of the source are not read. Slices that hold no structure get no frame. The object needs a frame of
    reference; where the series has none, one is derived from the series' UID.

    Args:
        mask: labels (X, Y, Z) on the grid that MONAI's `LoadImaged` gives for the series: columns, rows, slices.
        affine: (4, 4), voxel indices to mm, right, anterior and superior being positive.
        files: every file of the series, one a slice, in any order.
        labels: name of each label from 1 on, as numbers or as the fingerprint has them; 0, the background, is ignored.
        path: the object; its folder is created.
        model: name of the model, cut to 64 characters.
        version: its version, likewise.
        terms: codes and colors by label; None: the codes of `configs/terminology.yaml`.
        values: the value of each label in masks of other formats, where these differ; None: they do not.

    Raises:
        InputError: when highdicom is not installed, a file is not DICOM or lacks elements that the object refers to, or
            the mask is not on the grid of the series.
    """
    require_highdicom()
    voxels = np.asarray(mask)
    structures = {int(label): name for label, name in labels.items() if int(label) != 0}
    _check_labels(structures)
    check_mask(voxels, structures)
    coded = structure_terms(structures) if terms is None else terms
    headers = read_source(files, np.asarray(affine, dtype=np.float64), voxels.shape)
    segments = [_describe(label, structures[label], coded[label], model, version) for label in sorted(structures)]
    for segment in segments:
        if values:
            segment.SegmentDescription = f"label value {values[int(segment.SegmentNumber)]}"
    frames = np.ascontiguousarray(voxels.astype(np.uint8).transpose(2, 1, 0))  # slices, rows, columns
    kept = _make_acceptable(headers, float(np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, 2])))
    segmentation = _segmentation(frames, headers, segments, model, version)
    for element in kept:
        segmentation.add(element)
    with temporary_beside(Path(path)) as temporary:
        segmentation.save_as(temporary, enforce_file_format=True)


def _check_labels(structures: Mapping[int, str]) -> None:
    if not structures or sorted(structures) != list(range(1, len(structures) + 1)):
        raise InputError(f"the labels are {sorted(structures)}: DICOM SEG numbers segments 1, 2, ... without gaps.")


def _describe(label: int, structure: str, terms: Terms, model: str, version: str) -> pydicom.Dataset:
    """Returns the description of a segment."""
    color = None if terms.color is None else highdicom.color.CIELabColor.from_rgb(*bytes.fromhex(terms.color[1:]))
    segment: pydicom.Dataset = highdicom.seg.SegmentDescription(
        segment_number=label,
        segment_label=long_string(structure),
        segmented_property_category=terms.category,
        segmented_property_type=terms.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=long_string(model), family=ARTIFICIAL_INTELLIGENCE, version=long_string(version)
        ),
        display_color=color,
    )
    if terms.modifier is not None:  # part of the type; highdicom has no argument for it
        modifier = highdicom.sr.CodedConcept.from_code(terms.modifier)
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return segment


def _make_acceptable(headers: Sequence[pydicom.Dataset], slice_distance: float) -> list[pydicom.DataElement]:
    """Fills in elements that highdicom requires, in memory; returns elements to copy into the object unchanged."""
    first = headers[0]
    first.decode()  # text in nested items, too: the object is written in UTF-8
    kept = [first[keyword] for keyword in TAKEN_AS_THEY_ARE if keyword in first]
    for keyword in TAKEN_AS_THEY_ARE:
        first.pop(keyword, None)  # a new element, so that the old one keeps its value
        setattr(first, keyword, "")
    for keyword in MAY_BE_EMPTY:
        if keyword not in first:
            setattr(first, keyword, "")
    if not first.get("SliceThickness"):
        first.SliceThickness = slice_distance
    if len(headers) > 1:
        first.SpacingBetweenSlices = slice_distance
    frame = frame_of_reference(headers)
    for header in headers:
        header.ImageOrientationPatient = first.ImageOrientationPatient  # equal but for rounding, as the grid has shown
        if not header.get("FrameOfReferenceUID"):  # a series has but one
            header.FrameOfReferenceUID = frame
    return kept


def _segmentation(
    frames: npt.NDArray[np.uint8],
    headers: Sequence[pydicom.Dataset],
    segments: Sequence[pydicom.Dataset],
    model: str,
    version: str,
) -> pydicom.Dataset:
    """Returns the object.

    Args:
        frames: labels (slices, rows, columns).
        headers: of the source, in the same order of slices.
        segments: the description of each label from 1 on.
        model: name of the model.
        version: its version.
    """
    # An object needs a frame: when no slice holds a structure, the first slice gets an empty one for each segment.
    empty = not frames.any()
    position = highdicom.PlanePositionSequence("PATIENT", headers[0].ImagePositionPatient)
    segmentation: pydicom.Dataset = highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=frames[:1] if empty else frames,
        plane_positions=[position] if empty else None,  # None: frame by frame those of the source
        omit_empty_frames=not empty,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=long_string(model),
        software_versions=long_string(version),
        device_serial_number="0",
        series_description=long_string(f"Segmentation by {model}"),
        content_label="SEGMENTATION",
        specific_character_set=UTF_8,
    )
    return segmentation
