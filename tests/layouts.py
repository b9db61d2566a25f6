"""Folders of scans in the layouts that `prepare_dataset.py` recognizes, as their authors write them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from builders import Array, diagonal_affine, edit_dicom, write_dicom_series, write_nifti
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RTStructureSetStorage, generate_uid
from sifa.io.dicom_source import make_item

SHAPE = (10, 12, 6)
SPACING = (1.5, 1.0, 4.0)  # mm: the third axis is the coarse one


def volume(name: str, shape: Sequence[int] = SHAPE) -> Array:
    """Returns intensities that depend on a name: around 0 HU where it begins with ct, else around 100."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return np.rint(generator.normal(0 if name.startswith("ct") else 100, 50, size=tuple(shape))).astype(np.int16)


def label(name: str, values: Sequence[int] = (0, 1, 2), shape: Sequence[int] = SHAPE) -> Array:
    """Returns a label with boxes of the values; it depends on a name."""
    found = np.full(tuple(shape), values[0], np.int16)
    start = 1 + zlib.crc32(name.encode()) % 2
    for index, value in enumerate(values[1:]):
        found[start + 3 * index : start + 3 * index + 3, 2:9, 1:5] = value
    return found


def write_image(path: Path, name: str, affine: Array | None = None) -> Path:
    """Writes the image of a name."""
    return write_nifti(path, volume(name), diagonal_affine(SPACING) if affine is None else affine)


def write_label(path: Path, name: str, values: Sequence[int] = (0, 1, 2)) -> Path:
    """Writes the label of a name on the grid of its image."""
    return write_nifti(path, label(name, values), diagonal_affine(SPACING))


def write_folders(folder: Path, cases: Sequence[str], values: Sequence[int] = (0, 1, 2)) -> Path:
    """Writes plain pairs, `images/CASE.nii.gz` and `labels/CASE.nii.gz`."""
    for case in cases:
        write_image(folder / "images" / f"{case}.nii.gz", case)
        write_label(folder / "labels" / f"{case}.nii.gz", case, values)
    return folder


def write_nnunet(
    folder: Path,
    cases: Sequence[str],
    labels: Mapping[str, Any],
    channels: Mapping[str, str],
    tests: Sequence[str] = (),
    labeled_tests: bool = False,
) -> Path:
    """Writes raw data of nnU-Net's second version: a `dataset.json`, `imagesTr/CASE_0000.nii.gz` and so on."""
    values = sorted(value for value in labels.values() if isinstance(value, int))
    for folders, names in ((("imagesTr", "labelsTr"), cases), (("imagesTs", "labelsTs"), tests)):
        for case in names:
            for number in channels:
                write_image(
                    folder / folders[0] / f"{case}_{int(number):04d}.nii.gz", f"{case}{number}" if int(number) else case
                )
            if folders[0] == "imagesTr" or labeled_tests:
                write_label(folder / folders[1] / f"{case}.nii.gz", case, values)
    content = {"channel_names": channels, "labels": labels, "numTraining": len(cases), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_first_nnunet(folder: Path, cases: Sequence[str], labels: Mapping[str, str]) -> Path:
    """Writes raw data of nnU-Net's first version, whose `dataset.json` lists images without the channel's number."""
    values = [int(value) for value in labels]
    for case in cases:
        write_image(folder / "imagesTr" / f"{case}_0000.nii.gz", case)
        write_label(folder / "labelsTr" / f"{case}.nii.gz", case, values)
    content = {
        "name": "task",
        "modality": {"0": "MRI"},
        "labels": labels,
        "numTraining": len(cases),
        "training": [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in cases],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_decathlon(
    folder: Path, cases: Sequence[str], tests: Sequence[str], labels: Mapping[str, str], modality: Mapping[str, str]
) -> Path:
    """Writes a task of the Medical Segmentation Decathlon; several channels are the fourth axis of an image."""
    values = [int(value) for value in labels]
    for place, names in (("imagesTr", cases), ("imagesTs", tests)):
        for case in names:
            channels = [volume(f"{case}{number}" if int(number) else case) for number in modality]
            image = channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
            write_nifti(folder / place / f"{case}.nii.gz", image, diagonal_affine(SPACING))
    for case in cases:
        write_label(folder / "labelsTr" / f"{case}.nii.gz", case, values)
    content = {
        "name": "task",
        "tensorImageSize": "3D" if len(modality) == 1 else "4D",
        "modality": modality,
        "labels": labels,
        "numTraining": len(cases),
        "numTest": len(tests),
        "training": [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in cases],
        "test": [f"./imagesTs/{case}.nii.gz" for case in tests],
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_bids(folder: Path, subjects: Sequence[str], suffixes: Sequence[str], sessions: Sequence[str] = ()) -> Path:
    """Writes subjects as BIDS has them, with labels under `derivatives/manual/` for the first suffix."""
    (folder / "derivatives" / "manual").mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"Name": "scans", "BIDSVersion": "1.8.0"}', encoding="utf-8")
    for subject in subjects:
        for session in sessions or [""]:
            place = Path(f"sub-{subject}", *([f"ses-{session}"] if session else []), "anat")
            stem = f"sub-{subject}" + (f"_ses-{session}" if session else "")
            for suffix in suffixes:
                write_image(folder / place / f"{stem}_{suffix}.nii.gz", f"{stem}_{suffix}")
            name = f"{stem}_space-orig_desc-manual_dseg.nii.gz"
            write_label(folder / "derivatives" / "manual" / place / name, f"{stem}_{suffixes[0]}")
    table = "index\tname\tcolor\n1\tleft part\t#ff0000\n2\tright part\t#00ff00\n"
    (folder / "derivatives" / "manual" / "dseg.tsv").write_text(table, encoding="utf-8")
    return folder


def write_patient(folder: Path, name: str, modality: str = "CT", shape: Sequence[int] = SHAPE) -> Path:
    """Writes the series of a patient, whose grid's axes lead to left, posterior and superior."""
    write_dicom_series(folder, volume(name, shape), SPACING)
    study = generate_uid()

    def change(dicom: pydicom.Dataset, _: int) -> None:
        dicom.StudyInstanceUID, dicom.FrameOfReferenceUID = study, study
        if modality == "MR":
            dicom.Modality = "MR"
            dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID = MRImageStorage
            del dicom.RescaleSlope, dicom.RescaleIntercept

    edit_dicom(sorted(folder.iterdir()), change)
    return folder


def write_contours(
    path: Path, series: Path | None, structures: Mapping[str, Sequence[tuple[float, Sequence[tuple[float, float]]]]]
) -> Path:
    """Writes an RTSTRUCT.

    Args:
        path: the file.
        series: folder of the series that it refers to; None: it refers to none.
        structures: contours of each structure: z and points (x, y), in mm, LPS.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, generate_uid()
    dicom = pydicom.dataset.FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    dicom.SOPClassUID, dicom.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    dicom.Modality, dicom.SeriesInstanceUID, dicom.StudyInstanceUID = "RTSTRUCT", generate_uid(), generate_uid()
    if series is not None:
        first = pydicom.dcmread(next(iter(sorted(series.glob("slice_*")))), stop_before_pixels=True)
        referenced = make_item(SeriesInstanceUID=first.SeriesInstanceUID)
        study = make_item(ReferencedSOPInstanceUID=first.StudyInstanceUID, RTReferencedSeriesSequence=[referenced])
        frame = make_item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])
        dicom.ReferencedFrameOfReferenceSequence = [frame]
    dicom.StructureSetROISequence = [
        make_item(ROINumber=number, ROIName=name) for number, name in enumerate(structures, start=1)
    ]
    dicom.ROIContourSequence = [
        make_item(
            ReferencedROINumber=number,
            ContourSequence=[
                make_item(
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{value:.4f}" for x, y in points for value in (x, y, z)],
                )
                for z, points in contours
            ],
        )
        for number, contours in enumerate(structures.values(), start=1)
    ]
    dicom.save_as(path, enforce_file_format=True)
    return path
