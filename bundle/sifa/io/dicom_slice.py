"""The header of one DICOM slice: which elements are read, and what they mean for geometry and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

# All elements that are read of a header: none identifies the patient.
KIND_TAGS = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType"]
PLACE_TAGS = ["Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"]
SIZE_TAGS = ["BitsAllocated", "SamplesPerPixel", "NumberOfFrames"]
VALUE_TAGS = ["RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "PixelPaddingValue"]
PIXEL_TAGS = ["PixelRepresentation", "BitsStored", "HighBit", "PhotometricInterpretation"]
FRAME_TAGS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
# These are the same for all slices of a series; only their hashes are kept.
SCENE_TAGS = ["StudyInstanceUID", "FrameOfReferenceUID", "PatientPosition"]
# What may distinguish the volumes of a series, with the elements that hold it, those of a frame first.
TRAITS = {
    "ConvolutionKernel": ("ConvolutionKernel",),
    "TemporalPositionIdentifier": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "NominalPercentageOfCardiacPhase": ("NominalPercentageOfCardiacPhase",),
    "StackID": ("StackID",),
    "AcquisitionNumber": ("FrameAcquisitionNumber", "AcquisitionNumber"),
    "AcquisitionTime": ("FrameAcquisitionDateTime", "AcquisitionTime", "AcquisitionDateTime"),
    "AcquisitionDateTime": ("AcquisitionDateTime",),
    "AcquisitionDate": ("AcquisitionDate",),
    "IrradiationEventUID": ("IrradiationEventUID",),
    "TriggerTime": ("NominalCardiacTriggerDelayTime", "TriggerTime"),
    "SliceThickness": ("SliceThickness",),
    "KVP": ("KVP",),
    "ImageType": ("FrameType", "ImageType"),
    "ContentTime": ("ContentTime",),
}
TRAIT_TAGS = sorted({keyword for keywords in TRAITS.values() for keyword in keywords} - {*KIND_TAGS})
HEADER_TAGS = [*KIND_TAGS, *PLACE_TAGS, *SIZE_TAGS, *VALUE_TAGS, *PIXEL_TAGS, *SCENE_TAGS, *TRAIT_TAGS, *FRAME_TAGS]
NUMBERS_OF_TAGS = {keyword: BaseTag(number) for keyword in HEADER_TAGS if (number := tag_for_keyword(keyword))}

TEXT_VRS = ("CS", "DA", "DS", "DT", "IS", "LO", "SH", "TM", "UI")
FRAMES_DIFFER = "its NumberOfFrames is not the number of frames that it describes: copy or export it again."

Trait = float | str | None


class PixelFormat(NamedTuple):
    """How pixels are stored; None where the header lacks the element."""

    photometric: str = "MONOCHROME2"
    samples: int = 1
    allocated: int | None = 16  # bits
    stored: int | None = 16  # bits
    high_bit: int | None = 15
    signed: int | None = 0


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The header of a slice, in mm and the patient's axes (LPS); `()` where the header lacks the element.

    A file that cannot be used has a `fault`. Where its header is incomplete, `sop_class` is empty and at most `series`
    is given.
    """

    file: Path
    sop_class: str = ""
    sop_instance: str = ""
    series: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    frame: int = 0  # index in the file
    frames: int = 1  # of the file
    size: tuple[int, int] = (0, 0)  # rows, columns
    pixel_spacing: tuple[float, ...] = ()  # between rows, between columns
    orientation: tuple[float, ...] = ()  # direction along a row, direction along a column
    position: tuple[float, ...] = ()  # of the first voxel's center
    pixels: PixelFormat = field(default_factory=PixelFormat)
    rescale: tuple[float, float] = (1.0, 0.0)  # slope, intercept
    rescale_given: tuple[bool, bool] = (True, True)  # whether the header has them
    rescale_type: str = ""  # in upper case
    lookup_table: bool = False  # in place of slope and intercept
    padding: float | None = None  # PixelPaddingValue in HU
    scene: tuple[int | None, ...] = field(default=(None,) * len(SCENE_TAGS), repr=False)  # hashes, as in `SCENE_TAGS`
    traits: tuple[Trait, ...] = field(default=(None,) * len(TRAITS), repr=False)  # in the order of `TRAITS`
    fault: str = ""  # the end of a sentence that begins with the file


def slice_normal(header: SliceHeader) -> npt.NDArray[np.float64]:
    """Returns the normal of a slice, LPS; of length 1 when the directions of rows and columns are orthogonal."""
    return np.cross(header.orientation[:3], header.orientation[3:])


def slices_of(file: Path, dataset: Dataset) -> list[SliceHeader]:
    """Returns the header of each frame of a multi-frame file, else of the one slice."""
    slices = [_slice(file, dataset, frame, index) for index, frame in enumerate(_frames(dataset))]
    if len(slices) == slices[0].frames:
        return slices
    return [replace(header, fault=header.fault or FRAMES_DIFFER) for header in slices]


def _frames(dataset: Dataset) -> Iterator[Dataset]:
    """Yields the frames of a multi-frame file, each with the elements of a single slice; otherwise the slice."""
    groups_of_frames = _value(dataset, "PerFrameFunctionalGroupsSequence") or ()
    if not groups_of_frames:
        yield dataset
    for groups in groups_of_frames:
        frame = Dataset()
        frame.update(dataset)
        for group in (*(_value(dataset, "SharedFunctionalGroupsSequence") or ()), groups):
            for element in group:
                if element.VR == "SQ" and element.value:
                    frame.update(element.value[0])
        yield frame


def _slice(file: Path, dataset: Dataset, frame: Dataset, index: int) -> SliceHeader:
    """Returns the header of a frame, or of the one slice, where `frame` and `dataset` are the same."""
    instance = str(_value(dataset, "SOPInstanceUID") or "")
    kind: dict[str, Any] = {
        "file": file,
        "sop_class": str(_value(dataset, "SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""),
        "sop_instance": f"{instance}#{index}" if instance and index else instance,
        "series": str(_value(dataset, "SeriesInstanceUID") or ""),
        "modality": str(_value(dataset, "Modality") or ""),
        "image_type": tuple(map(str, _several(_value(dataset, "ImageType")))),
        "frame": index,
    }
    try:
        return SliceHeader(**kind, **_measures(frame))
    except _NotANumberError as error:
        return SliceHeader(**kind, fault=f"{error}: export its series again.")


def _measures(frame: Dataset) -> dict[str, Any]:
    slope, intercept = (_number(frame, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    rescale = (1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
    signed = _whole(frame, "PixelRepresentation")
    padding = _number(frame, "PixelPaddingValue")
    if padding is not None and signed == 1 and padding > 32767:
        padding -= 65536  # a signed number written as an unsigned one
    return {
        "frames": _whole(frame, "NumberOfFrames") or 1,
        "size": (_whole(frame, "Rows") or 0, _whole(frame, "Columns") or 0),
        "pixel_spacing": _numbers(frame, "PixelSpacing"),
        "orientation": _numbers(frame, "ImageOrientationPatient"),
        "position": _numbers(frame, "ImagePositionPatient"),
        "pixels": PixelFormat(
            str(_value(frame, "PhotometricInterpretation") or "").strip().upper(),
            _whole(frame, "SamplesPerPixel") or 1,
            _whole(frame, "BitsAllocated"),
            _whole(frame, "BitsStored"),
            _whole(frame, "HighBit"),
            signed,
        ),
        "rescale": rescale,
        "rescale_given": (slope is not None, intercept is not None),
        "rescale_type": str(_value(frame, "RescaleType") or "").strip().upper(),
        "lookup_table": bool(_value(frame, "ModalityLUTSequence")),
        "padding": None if padding is None else padding * rescale[0] + rescale[1],
        "scene": tuple(_hash_of(frame, keyword) for keyword in SCENE_TAGS),
        "traits": tuple(_trait(frame, keywords) for keywords in TRAITS.values()),
    }


class _NotANumberError(ValueError):
    """An element that has to be numbers is something else; the message names the element, without its value."""


def _numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    values: Sequence[Any] = ()
    try:
        values = _several(_value(dataset, keyword))
        return tuple(map(float, values))
    except (ValueError, TypeError, OverflowError) as error:
        comma = any("," in str(value) for value in values)
        reason = "is written with a decimal comma" if comma else "is not a number"
        raise _NotANumberError(f"its {keyword} {reason}") from error


def _number(dataset: Dataset, keyword: str) -> float | None:
    """Returns the number of an element of one value, or None."""
    numbers = _numbers(dataset, keyword)
    if len(numbers) > 1:
        raise _NotANumberError(f"its {keyword} is not one number")
    return numbers[0] if numbers else None


def _whole(dataset: Dataset, keyword: str) -> int | None:
    number = _number(dataset, keyword)
    return None if number is None else int(number)


def _value(dataset: Dataset, keyword: str) -> Any:
    """Returns the value of an element or None, as `dataset.get(keyword)` does in twice the time."""
    number, present = NUMBERS_OF_TAGS[keyword], dataset.keys()  # `in dataset` would convert the number first
    return dataset[number].value if number in present else None


def _several(value: Any) -> Sequence[Any]:
    """Returns the values of an element as a sequence, however many there are."""
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) or not hasattr(value, "__iter__") else value


def _hash_of(dataset: Dataset, keyword: str) -> int | None:
    """Returns a hash of an element that is only compared; None where it is missing, empty or unreadable."""
    with suppress(Exception):
        text = _as_text(dataset, keyword).strip(" \0")
        return hash(text) if text else None
    return None


def _trait(dataset: Dataset, keywords: Sequence[str]) -> Trait:
    """Returns the value of the first of some elements that is given: a number where it is one, else text."""
    text = ""
    with suppress(ValueError, TypeError):  # an unreadable value distinguishes nothing
        text = next(filter(None, (_as_text(dataset, keyword) for keyword in keywords)), "")
        return float(text)
    return text or None


def _as_text(dataset: Dataset, keyword: str) -> str:
    """Returns the values of an element; from the bytes of the file where these are text, which takes half the time."""
    number, present = NUMBERS_OF_TAGS[keyword], dataset.keys()
    element = dataset.get_item(number) if number in present else None
    if isinstance(element, RawDataElement) and element.VR in TEXT_VRS:
        return (element.value or b"").decode("latin-1").strip(" \0")
    return "" if element is None else "\\".join(map(str, _several(dataset[number].value))).strip()
