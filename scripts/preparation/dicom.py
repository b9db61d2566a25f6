"""Finds DICOM series of CT and MR, a folder a patient, and their labels: DICOM SEG, RTSTRUCT or files such as NIfTI."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from sifa.io.dicom_headers import read_slices, skip_reason
from sifa.io.formats import begins_as_dicom
from sifa.utils.errors import InputError, first_line

from preparation.pairs import subject_name
from preparation.scans import Domain, Scan, files_below, require_unique, scan_files

MODALITIES = ("CT", "MR")
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # SOP classes: SEG, labelmap SEG
CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"  # SOP class of RTSTRUCT
SEVERAL = 2  # from here on they are several


@dataclass
class _Found:
    series: dict[Path, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))  # modality by UID, by folder
    labels: list[Path] = field(default_factory=list)  # SEG and RTSTRUCT


def holds_dicom(folder: Path) -> bool:
    """Returns whether a folder, or one below it, holds a file that begins as DICOM."""
    return any(map(begins_as_dicom, files_below(folder)))


def find_in_dicom(folder: Path, labels: Path | None, modality: str | None, options: tuple[str, str]) -> Domain:
    """Finds the series of all patients, and their labels.

    The patient is the first folder below `folder`. A DICOM label belongs to the series that it refers to, a file such
    as NIfTI to the series of the patient in whose folder it lies or whose name it has.

    Args:
        folder: of all patients, or of the files of one.
        labels: a folder of labels; None: they are in the folders of the patients, if there are any.
        modality: CT or MR; None: the folder holds only one of both.
        options: the command-line options of the labels' folder and of the modality.

    Raises:
        InputError: when a file is damaged, a folder holds several series, or a label fits no series or a series has
            several labels.
    """
    found = _read(folder, labels)
    kinds = {kind for series in found.series.values() for kind in series.values()}
    wanted = modality.strip().upper() if modality else None
    if len(kinds) >= SEVERAL and wanted not in kinds:
        raise InputError(f"{folder}: it holds series of CT and of MR: say which to use with {options[1]}.")
    wanted = wanted if wanted in kinds else next(iter(kinds), None)
    series: dict[str, Path] = {}
    for place, several in found.series.items():
        if len(several) >= SEVERAL:
            raise InputError(f"{place}: it holds {len(several)} series: give each a folder of its own.")
        for uid, kind in several.items():
            if kind == wanted:
                series[uid] = place
    if not series:
        raise InputError(f"{folder}: it holds no series of CT or MR: give the folder of the patients.")
    pairs = _labels_of(folder, labels, found, series, options[0])
    scans = []
    for place in sorted(series.values()):
        parts = place.relative_to(folder).parts or (folder.name,)
        scans.append(Scan(parts[0], "_".join(parts), place, pairs.get(place)))
    require_unique(scans)
    return Domain(folder, "DICOM", scans, wanted)


def _read(folder: Path, labels: Path | None) -> _Found:
    """Reads the headers of all files; where there is a folder of labels, these come from there only."""
    found = _Found()
    for path in files_below(folder):
        for header in read_slices(path)[:1]:
            if header.sop_class in (*SEGMENTATIONS, CONTOURS):
                if labels is None:
                    found.labels.append(path)
            elif not header.sop_class:
                raise InputError(f"{path}: {header.fault}")
            elif not skip_reason(header, MODALITIES):
                found.series[path.parent][header.series] = "MR" if skip_reason(header) else "CT"
    if labels is not None:
        found.labels += [path for path in files_below(labels) if kind_of(path) in (*SEGMENTATIONS, CONTOURS)]
    return found


def _labels_of(
    folder: Path, labels: Path | None, found: _Found, series: dict[str, Path], option: str
) -> dict[Path, Path]:
    """Returns the label of each series that has one."""
    by_patient = defaultdict(list)
    for place in series.values():
        by_patient[(place.relative_to(folder).parts or (folder.name,))[0].casefold()].append(place)
    pairs: dict[Path, Path] = {}
    root = labels or folder
    for path in [*found.labels, *scan_files(root)]:
        named = [series[uid] for uid in _referenced_series(path) if uid in series] if path in found.labels else []
        parts = path.relative_to(root).parts
        patient = parts[0].casefold() if len(parts) > 1 else subject_name(path)
        places = named or by_patient.get(patient) or (by_patient[folder.name.casefold()] if len(parts) == 1 else [])
        if len(places) != 1:
            what = "several series of its patient" if places else "no series"
            raise InputError(
                f"{path}: {what} may belong to this file, which is taken for a label beside DICOM series: name it like "
                "the patient's folder, or put scans that are no DICOM into a folder of their own."
            )
        if places[0] in pairs:
            raise InputError(
                f"{places[0]}: it has two labels, {pairs[places[0]]} and {path}: move one away, or give the folder of "
                f"the labels ({option})."
            )
        pairs[places[0]] = path
    return pairs


def _referenced_series(path: Path) -> list[str]:
    """Returns the UIDs of the series that a DICOM SEG or an RTSTRUCT refers to."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:  # a damaged header fails in many ways
        raise InputError(f"{path}: it cannot be read as DICOM ({first_line(error)}): copy it again.") from error
    series = [*header.get("ReferencedSeriesSequence", ())]
    for frame in header.get("ReferencedFrameOfReferenceSequence", ()):
        for study in frame.get("RTReferencedStudySequence", ()):
            series += study.get("RTReferencedSeriesSequence", ())
    return [str(one.SeriesInstanceUID) for one in series if one.get("SeriesInstanceUID")]


def kind_of(path: Path) -> str:
    """Returns the SOP class of a file; empty where it is not DICOM."""
    return next((header.sop_class for header in read_slices(path)), "")
