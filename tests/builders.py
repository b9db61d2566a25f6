"""Small inputs that tests of several subjects build: volumes in any orientation, a DICOM series, a data set folder."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid
from sifa.fingerprint.fingerprint import (
    Domain,
    Fingerprint,
    NetworkSize,
    TrainingSummary,
    VolumeRange,
    read_fingerprint,
)
from sifa.networks.segmenter import Segmenter
from sifa.quality_control.calibration import Calibration, write_calibration
from sifa.quality_control.monotone_fit import fit
from sifa.quality_control.resemblance import LatentRange, Resemblance
from sifa.quality_control.signal_meter import SIGNALS
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file

Array = npt.NDArray[Any]

# Every way to store one volume: 6 orders of the axes times 8 flips.
ALL_AXCODES = tuple(
    "".join(pair[side] for pair, side in zip(order, flips, strict=True))
    for order in itertools.permutations(("LR", "PA", "IS"))
    for flips in itertools.product((0, 1), repeat=3)
)


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def names(cases: list[dict[str, str]]) -> list[str]:
    """Returns the subjects of a list of cases."""
    return [Path(case["image"]).name.removesuffix(".nii.gz") for case in cases]


def assert_refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Checks exit status 2 and one sentence on stderr that holds every part."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    for part in parts:
        assert part in errors[0]


def diagonal_affine(spacing: Sequence[float], origin: Sequence[float] = (-30.0, 20.0, 100.0)) -> Array:
    """Returns the affine of a volume whose axes lead to right, anterior and superior (`RAS`), `spacing` in mm."""
    affine = np.diag([*map(float, spacing), 1.0])
    affine[:3, 3] = origin
    return affine


def stored_as(volume: Array, affine: Array, axcodes: str) -> tuple[Array, Array]:
    """Returns the same volume at the same place in the patient, its axes leading to `axcodes`, and its affine."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axcodes))
    )
    turned = nib.orientations.apply_orientation(volume, turn)
    return turned, affine @ nib.orientations.inv_ornt_aff(turn, volume.shape)


def write_nifti(path: Path, volume: Array, affine: Array | None = None) -> Path:
    """Writes a NIfTI file and its folder; without an affine its axes are `RAS` and its voxels 1 mm wide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Naming the type keeps nibabel from refusing 64-bit integers.
    nib.save(nib.Nifti1Image(volume, np.eye(4) if affine is None else affine, dtype=volume.dtype), path)
    return path


def write_dicom_series(
    folder: Path, volume: Array, spacing: Sequence[float] = (1.0, 1.0, 1.0), ending: str = ".dcm"
) -> Path:
    """Writes an axial CT series, a file a slice.

    Args:
        folder: where the files go.
        volume: HU, whole numbers from -1024, its axes leading to left, posterior and superior (`LPS`).
        spacing: voxel size in mm along these axes; the first voxel's center lies at the patient's origin.
        ending: ending of the files' names.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = "1.2.4", generate_uid(), "1.2.5"
    for index in range(volume.shape[2]):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        path = folder / f"slice_{index:03d}{ending}"
        dicom = pydicom.dataset.FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
        dicom.SOPClassUID, dicom.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dicom.StudyInstanceUID, dicom.SeriesInstanceUID, dicom.FrameOfReferenceUID = study, series, frame
        dicom.Modality, dicom.PatientID, dicom.InstanceNumber = "CT", "nobody", index + 1
        pixels = np.ascontiguousarray((volume[:, :, index].T + 1024).astype(np.uint16))
        dicom.Rows, dicom.Columns = pixels.shape
        dicom.PixelSpacing = [float(spacing[1]), float(spacing[0])]  # between rows, between columns
        dicom.SliceThickness = float(spacing[2])
        dicom.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dicom.ImagePositionPatient = [0, 0, index * float(spacing[2])]
        dicom.SamplesPerPixel, dicom.PhotometricInterpretation = 1, "MONOCHROME2"
        dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation = 16, 16, 15, 0
        dicom.RescaleSlope, dicom.RescaleIntercept = 1, -1024
        dicom.PixelData = pixels.tobytes()
        dicom.save_as(path, enforce_file_format=True)
    return folder


def put(path: Path, content: bytes = b"") -> Path:
    """Writes a file and its folder; for finding, names and beginnings of files are all that counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def mixed_into(folder: Path, *series: Path) -> Path:
    """Moves the files of several series into one folder, under names that mix them."""
    folder.mkdir(parents=True)
    for number, one in enumerate(series):
        for index, file in enumerate(sorted(one.iterdir())):
            file.rename(folder / f"{index:03d}_{number}.dcm")
        one.rmdir()
    return folder


def edit_dicom(files: Iterable[Path], change: Callable[[pydicom.Dataset, int], Any]) -> None:
    """Changes the data set of each file, given together with its number, and writes it again."""
    for number, file in enumerate(files):
        dicom = pydicom.dcmread(file)
        change(dicom, number)
        dicom.save_as(file)


def turn_slice(dicom: pydicom.Dataset) -> None:
    """Turns a slice about all three axes, as a whole with its neighbors."""
    a, b, c = np.radians([20.0, -35.0, 15.0])
    about_x = np.asarray([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.asarray([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.asarray([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    rotation = about_z @ about_y @ about_x

    def decimal(vector: Array) -> list[str]:
        return [f"{value:.9f}" for value in vector]

    position = rotation @ np.asarray(dicom.ImagePositionPatient, float) + [12.5, -200.25, 31.0]
    dicom.ImagePositionPatient = decimal(position)
    dicom.ImageOrientationPatient = decimal(np.concatenate([rotation[:, 0], rotation[:, 1]]))


def name_patient(dicom: pydicom.Dataset) -> None:
    """Gives a slice a patient whose name is not ASCII, and a date that de-identification left incomplete."""
    dicom.SpecificCharacterSet, dicom.PatientName, dicom.PatientID = "ISO_IR 100", "Müller^Jörg", "id-0815"
    dicom.add_new("PatientBirthDate", "DA", "19450000")  # as de-identification leaves it
    dicom.PatientSex, dicom.StudyDescription = "F", "Herz für Müller"
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99LOCAL", "Wächter"
    dicom.ProcedureCodeSequence = [code]


def write_enhanced_ct(
    path: Path,
    volume: Array,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    heights: Sequence[float] | None = None,
    slopes: Sequence[float] | None = None,
    content: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Writes an axial Enhanced CT: all slices in one file, of the series 1.2.3.

    Args:
        path: the file.
        volume: stored value - 1024, whole numbers from -1024, its axes leading to left and posterior and along frames.
        spacing: voxel size in mm; the first voxel's center lies above the patient's origin.
        heights: z of each frame in mm; None: from 0 on in steps of the spacing.
        slopes: RescaleSlope of each frame; None: 1. The intercept is -1024.
        content: elements of each frame's FrameContentSequence.

    Returns:
        The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    dicom = pydicom.dataset.FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    dicom.SOPClassUID, dicom.SOPInstanceUID = EnhancedCTImageStorage, meta.MediaStorageSOPInstanceUID
    dicom.StudyInstanceUID, dicom.SeriesInstanceUID, dicom.Modality = "1.2.4", "1.2.3", "CT"
    dicom.Columns, dicom.Rows, dicom.NumberOfFrames = volume.shape
    dicom.SamplesPerPixel, dicom.PhotometricInterpretation = 1, "MONOCHROME2"
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation = 16, 16, 15, 0
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence = _sequence(PixelSpacing=[spacing[1], spacing[0]], SliceThickness=spacing[2])
    shared.PlaneOrientationSequence = _sequence(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    frames = []
    for index in range(volume.shape[2]):
        frame = pydicom.Dataset()
        height = index * spacing[2] if heights is None else heights[index]
        frame.PlanePositionSequence = _sequence(ImagePositionPatient=[0, 0, height])
        slope = 1 if slopes is None else slopes[index]
        frame.PixelValueTransformationSequence = _sequence(RescaleSlope=slope, RescaleIntercept=-1024)
        frame.FrameContentSequence = _sequence(**({} if content is None else content[index]))
        frames.append(frame)
    dicom.SharedFunctionalGroupsSequence = pydicom.Sequence([shared])
    dicom.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
    dicom.PixelData = np.ascontiguousarray((volume.transpose(2, 1, 0) + 1024).astype(np.uint16)).tobytes()
    dicom.save_as(path)
    return path


def _sequence(**elements: Any) -> pydicom.Sequence:
    item = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return pydicom.Sequence([item])


def write_dataset(folder: Path, shape: Sequence[int] = (6, 7, 5), label_values: int = 3) -> dict[str, Any]:
    """Writes the volumes of a data set and its `dataset.json`: MR labeled, CT not, a subject or two in each list.

    Returns:
        The content of the `dataset.json`, to change and write again with `write_description`.
    """
    generator = np.random.default_rng(0)
    affine = diagonal_affine((1.5, 1.0, 2.0))

    def subject(name: str, labeled: bool = True) -> dict[str, str]:
        item = {"image": f"images/{name}.nii.gz"}
        center = 0 if name.startswith("ct") else 100  # HU, or arbitrary units
        write_nifti(folder / item["image"], generator.normal(center, 50, size=shape).astype(np.float32), affine)
        if labeled:
            item["label"] = f"labels/{name}.nii.gz"
            label = generator.permutation(np.arange(np.prod(shape)) % label_values).reshape(shape)
            write_nifti(folder / item["label"], label.astype(np.uint8), affine)
        return item

    content: dict[str, Any] = {
        "name": "tiny",
        "slice_plane": "coronal",
        "labels": {"0": "background", "1": "left", "2": "right"},
        "source": {
            "modality": "MR",
            "training": [subject("mr_1"), subject("mr_2")],
            "validation": [subject("mr_3")],
        },
        "target": {
            "modality": "CT",
            "training": [subject("ct_1", labeled=False), subject("ct_2", labeled=False)],
            "validation": [subject("ct_3")],
            "test": [subject("ct_4")],
        },
    }
    write_description(folder, content)
    return content


def write_description(folder: Path, content: Any) -> Path:
    """Writes `content` as the `dataset.json` of `folder` and returns its path."""
    path = folder / "dataset.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def make_fingerprint(**changes: Any) -> Fingerprint:
    """Returns a fingerprint of two structures with these fields changed."""
    training = TrainingSummary(3, (-277.0, 451.0), (1.5, 1.5, 2.0), (150.0, 148.0, 98.0))
    fingerprint = Fingerprint(
        name="tiny",
        labels={0: "background", 1: "left", 2: "right"},
        slice_plane="coronal",
        orientation="ILP",
        spacing=(4.7, 4.7, 0.0),
        slice_size=(16, 32),
        matched_in_plane=False,
        source_size=(16, 32),
        pamr_iterations=0,
        structures={"left": VolumeRange(0.5, 2.5)},
        spatial_prior={},
        source=Domain("MR", {"mode": "percentiles", "lower": 0.5, "upper": 99.5}, training),
        target=Domain("CT", {"mode": "window", "lower": -277.0, "upper": 451.0}, training),
        network=NetworkSize(in_channels=1, out_channels=3, width=0.25),
        versions={"sifa": "0.0.0"},
    )
    return replace(fingerprint, **changes)


def calibrate_by_hand(folder: Path) -> Path:
    """Writes a calibration beside a `model.pt` and returns its path: Dice is a mean of signals, flagged below 0.95."""
    signals = np.random.default_rng(0).uniform(size=(60, len(SIGNALS["full"])))
    rows = [dict(zip(SIGNALS["full"], row.tolist(), strict=True)) for row in signals]
    dice = np.array([np.mean([row[name] for name in SIGNALS["fast"]]) for row in rows])
    fits = {
        name: fit([{signal: row[signal] for signal in used} for row in rows], dice, np.arange(60) // 5)._replace(
            threshold=0.95
        )
        for name, used in SIGNALS.items()
    }
    network = Segmenter(**asdict(read_fingerprint(folder / "fingerprint.json").network))
    size = 2 * network.encoder.out_channels
    latents = LatentRange([0.0] * size, [1.0] * size, 1e9)  # holds every scan
    resemblance = Resemblance(30, 0.6, 40.0)
    known = Calibration(hash_of_file(folder / "model.pt"), 12, 60, ["by hand"], resemblance, latents, fits)
    return write_calibration(known, folder)


def refusal(action: Callable[[], Any]) -> str:
    """Returns how `action` refuses its input: the message of an `InputError`, which has to be one line that ends."""
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message
