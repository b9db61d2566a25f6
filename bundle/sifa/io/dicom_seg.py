"""Writes a mask as a DICOM SEG object, which an archive files with the series that it was made from.

Only this module needs `highdicom`, which is not among the bundle's requirements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import yaml
from monai.utils import optional_import
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from sifa.utils.errors import InputError, first_line
from sifa.utils.files import temporary_beside
from sifa.utils.paths import bundle_root

highdicom, has_highdicom = optional_import("highdicom")

TERMINOLOGY = Path(bundle_root()) / "configs" / "terminology.yaml"
GENERIC = {  # a structure that the terminology does not list
    "category": Code("123037004", "SCT", "Anatomical Structure"),
    "type": Code("91723000", "SCT", "Anatomical structure"),
}
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162

MANUFACTURER = "SIFA bundle"
SERIES_NUMBER = 9000  # far from the scanner's own
UTF_8 = "ISO_IR 192"
LONGEST = 64  # characters of DICOM's LO

TOLERANCE = 0.1  # voxels; scanners round positions; any other grid differs by more somewhere

# Without these the object could not refer to its series, or be placed in space.
REQUIRED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
)
# Elements of the file meta information with the same value by definition, used where the others were blanked.
STAND_INS = {"SOPClassUID": "MediaStorageSOPClassUID", "SOPInstanceUID": "MediaStorageSOPInstanceUID"}
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
    terminology: Path | str = TERMINOLOGY,
) -> None:
    """Writes a mask as one DICOM SEG object with a binary segment for each structure, empty ones included.

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
        terminology: YAML from structure to codes, see `configs/terminology.yaml`.

    Raises:
        InputError: when highdicom is not installed, a file is not DICOM or lacks elements that the object refers to, or
            the mask is not on the grid of the series.
    """
    require_highdicom()
    voxels = np.asarray(mask)
    structures = {int(label): name for label, name in labels.items() if int(label) != 0}
    _check_mask(voxels, structures)
    codes = read_terminology(terminology)
    headers = _in_slice_order(_read_headers(files), np.asarray(affine, dtype=np.float64), voxels.shape)
    segments = [_describe(label, structures[label], codes, model, version) for label in sorted(structures)]
    frames = np.ascontiguousarray(voxels.astype(np.uint8).transpose(2, 1, 0))  # slices, rows, columns
    kept = _make_acceptable(headers, float(np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, 2])))
    segmentation = _segmentation(frames, headers, segments, model, version)
    for element in kept:
        segmentation.add(element)
    with temporary_beside(Path(path)) as temporary:
        segmentation.save_as(temporary, enforce_file_format=True)


def read_terminology(path: Path | str = TERMINOLOGY) -> dict[str, dict[str, Code]]:
    """Reads the codes of structures: by name in lower case, `category`, `type` and for paired organs `modifier`.

    Raises:
        InputError: when the file cannot be read or an entry is not of that form.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: the terminology cannot be read ({first_line(error)}): restore the file.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: write a structure's name and its codes in each entry.")
    return {str(name).lower(): _read_codes(entry, f"{path}: {name!r}") for name, entry in content.items()}


def _read_codes(entry: Any, place: str) -> dict[str, Code]:
    if not isinstance(entry, dict) or not {"category", "type"} <= set(entry) <= {"category", "type", "modifier"}:
        raise InputError(f"{place} needs a category and a type, and may have a modifier.")
    for role, code in entry.items():
        if not isinstance(code, list) or len(code) != 3 or not all(isinstance(part, str) and part for part in code):
            raise InputError(f"{place}: write {role} as ['value', scheme, meaning], the value in quotes.")
    return {role: Code(*code) for role, code in entry.items()}


def _check_mask(voxels: npt.NDArray[Any], structures: Mapping[int, str]) -> None:
    if voxels.ndim != 3:
        raise InputError(f"the mask has the shape {voxels.shape}: DICOM SEG takes columns, rows and slices.")
    if not structures or sorted(structures) != list(range(1, len(structures) + 1)):
        raise InputError(f"the labels are {sorted(structures)}: DICOM SEG numbers segments 1, 2, ... without gaps.")
    unknown = sorted(set(np.unique(voxels).tolist()) - {0, *structures})
    if unknown:
        raise InputError(f"the mask holds {unknown[0]:g}, which is not among the labels {sorted(structures)}.")


def _read_headers(files: Iterable[Path | str]) -> list[tuple[Path, pydicom.Dataset]]:
    """Returns each file of the series with its header."""
    headers: list[tuple[Path, pydicom.Dataset]] = []
    for file in map(Path, files):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True)  # some lack the preamble
            for keyword, stand_in in STAND_INS.items():
                if not header.get(keyword) and stand_in in header.file_meta:
                    setattr(header, keyword, header.file_meta[stand_in].value)
            missing = [keyword for keyword in REQUIRED if not header.get(keyword)]
        except Exception as error:  # a damaged header fails in many ways
            raise InputError(f"{file} cannot be read as DICOM ({first_line(error)}): leave it out.") from error
        if missing:
            raise InputError(
                f"{file}: it lacks {' and '.join(missing)}, and a DICOM SEG has to name the study, the series "
                "and the slices that it was made from, and where they lie: export the series again, one file a slice, "
                "with new UIDs in place of those that de-identification takes away."
            )
        headers.append((file, header))
    if not headers:
        raise InputError("there is no DICOM file to tie a DICOM SEG to: name the files of the series.")
    first_file, first = headers[0]
    for file, other in headers:
        if other.SeriesInstanceUID != first.SeriesInstanceUID:
            raise InputError(f"{first_file} and {file} belong to different series: put each series in its own folder.")
    return headers


def _in_slice_order(
    headers: Sequence[tuple[Path, pydicom.Dataset]], affine: npt.NDArray[np.float64], shape: Sequence[int]
) -> list[pydicom.Dataset]:
    """Returns the headers in the order of the mask's slices, after checking that both have the same grid."""
    by_slice: dict[int, pydicom.Dataset] = {}
    for file, header in headers:
        columns, rows = int(header.Columns), int(header.Rows)
        if (columns, rows) != tuple(shape[:2]):
            raise InputError(
                f"{file} has {columns} columns and {rows} rows, the mask {shape[0]} and {shape[1]}: "
                "the mask was made from another scan."
            )
        indices = _voxel_indices(header, affine)
        number = round(indices[0, 2])
        expected = np.asarray([[0, 0, number], [columns - 1, 0, number], [0, rows - 1, number]])
        distance = np.abs(indices - expected).max()
        if not distance <= TOLERANCE:
            raise InputError(
                f"{file} does not lie on the grid of the mask ({distance:.2f} voxels off): the mask was made from "
                "another scan, or the series has a tilted gantry or uneven slices."
            )
        by_slice[number] = header
    if sorted(by_slice) != list(range(shape[2])) or len(headers) != shape[2]:
        raise InputError(
            f"{headers[0][0].parent} has {len(headers)} files at {len(by_slice)} positions, the mask {shape[2]} "
            "slices: keep every slice of one series in the folder, once, and nothing else."
        )
    return [by_slice[number] for number in range(shape[2])]


def _voxel_indices(header: pydicom.Dataset, affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns where the first pixel of a slice, the last of its row and the last of its column lie in the mask."""
    origin = np.asarray(header.ImagePositionPatient, dtype=np.float64)
    along_row, along_column = np.asarray(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = map(float, header.PixelSpacing)
    corners = np.stack(
        [
            origin,
            origin + along_row * between_columns * (int(header.Columns) - 1),
            origin + along_column * between_rows * (int(header.Rows) - 1),
        ]
    )
    corners *= (-1, -1, 1)  # DICOM counts to the left and posterior, the affine to the right and anterior
    return (corners - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T


def _describe(
    label: int, structure: str, codes: Mapping[str, Mapping[str, Code]], model: str, version: str
) -> pydicom.Dataset:
    """Returns the description of a segment."""
    coded = codes.get(structure.lower(), GENERIC)
    segment: pydicom.Dataset = highdicom.seg.SegmentDescription(
        segment_number=label,
        segment_label=_long_string(structure),
        segmented_property_category=coded["category"],
        segmented_property_type=coded["type"],
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=_long_string(model), family=ARTIFICIAL_INTELLIGENCE, version=_long_string(version)
        ),
    )
    if "modifier" in coded:  # part of the type; highdicom has no argument for it
        modifier = highdicom.sr.CodedConcept.from_code(coded["modifier"])
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return segment


def _long_string(text: str) -> str:
    """Returns `text` as a valid value of DICOM's LO."""
    return text.replace("\\", "/")[:LONGEST]


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
    named = [header.FrameOfReferenceUID for header in headers if header.get("FrameOfReferenceUID")]
    frame_of_reference = named[0] if named else generate_uid(entropy_srcs=[first.SeriesInstanceUID])
    for header in headers:
        header.ImageOrientationPatient = first.ImageOrientationPatient  # equal but for rounding, as the grid has shown
        if not header.get("FrameOfReferenceUID"):  # a series has but one
            header.FrameOfReferenceUID = frame_of_reference
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
        manufacturer_model_name=_long_string(model),
        software_versions=_long_string(version),
        device_serial_number="0",
        series_description=_long_string(f"Segmentation by {model}"),
        content_label="SEGMENTATION",
        specific_character_set=UTF_8,
    )
    return segmentation
