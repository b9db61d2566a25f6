"""RTSTRUCT: contours rasterized by another program's rule, references, codes and colors, read with pydicom alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from builders import Array, edit_dicom, name_patient, refusal, turn_slice, write_dicom_series
from monai.transforms import LoadImage
from pydicom.uid import RTStructureSetStorage
from scipy import ndimage
from sifa.io.contours import outlines
from sifa.io.rtstruct import write_rtstruct
from sifa.io.terminology import check_terms, structure_terms
from sifa.reports.colors import colors_of
from skimage.draw import polygon2mask

LABELS = {0: "background", 1: "liver", 2: "right kidney", 7: "lump", 205: "spleen"}
TO_RAS = np.asarray([-1.0, -1.0, 1.0])


class Series:
    """A series on disk and a mask on its grid."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.iterdir())
        image = LoadImage()(folder)
        self.affine, self.mask = image.affine.numpy(), np.zeros(image.shape, np.uint8)

    @property
    def headers(self) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(file, stop_before_pixels=True) for file in self.files]

    def write(self, path: Path, own: Any = None, **changes: Any) -> pydicom.Dataset:
        names = {label: name for label, name in LABELS.items() if label}
        terms = structure_terms(LABELS, check_terms(own or {}, LABELS, "own"))
        colors = colors_of(names, {name: entry["color"] for name, entry in (own or {}).items() if "color" in entry})
        given = {"mask": self.mask, "affine": self.affine, "files": self.files, "labels": LABELS}
        given |= {"model": "SIFA", "version": "1.2", "terms": terms, "colors": colors}
        write_rtstruct(**{**given, "path": path, **changes})
        return pydicom.dcmread(path)


def ball(shape: tuple[int, ...], center: tuple[float, ...], radius: float, spacing: tuple[float, ...]) -> Array:
    places = np.indices(shape)
    steps = [(axis - at) * step for axis, at, step in zip(places, center, spacing, strict=True)]
    inside: Array = np.sum(np.square(steps), axis=0) < radius**2
    return inside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A series of 48 x 40 pixels and 6 slices, whose file names say nothing of the order of slices."""
    generator = np.random.default_rng(0)
    folder = write_dicom_series(tmp_path / "series", np.zeros((48, 40, 6)), (0.7, 1.3, 2.5))
    for file, number in zip(sorted(folder.iterdir()), generator.permutation(6), strict=True):
        file.rename(folder / f"image{number}")
    return folder


@pytest.fixture
def series(folder: Path) -> Series:
    """That series, with a shell that touches the border, a ball in it, and scattered pixels; one label is absent."""
    made, spacing = Series(folder), (0.7, 1.3, 2.5)
    shape = made.mask.shape
    made.mask[ball(shape, (15, 12, 2), 17, spacing)] = 1
    made.mask[ball(shape, (15, 12, 2), 8, spacing)] = 0
    made.mask[ball(shape, (15, 12, 2), 4, spacing)] = 2
    lumps = np.asarray(np.random.default_rng(1).random(shape)) < 0.3
    made.mask[30:][lumps[30:]] = 7
    return made


def rasterized(rtstruct: pydicom.Dataset, affine: Array, shape: tuple[int, ...]) -> dict[int, Array]:
    """Returns the voxels whose centers lie in the contours of each ROI, by scikit-image's even-odd rule."""
    to_voxels = np.linalg.inv(affine)
    found = {}
    for region in rtstruct.ROIContourSequence:
        inside = np.zeros(shape, bool)
        for contour in region.get("ContourSequence", ()):
            points = np.reshape(np.asarray(contour.ContourData, float), (-1, 3)) * TO_RAS
            indices = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]
            number = round(float(indices[0, 2]))
            assert len(points) == contour.NumberOfContourPoints
            assert np.allclose(indices[:, 2], number, atol=1e-2)
            part = polygon2mask(shape[:2], indices[:, :2])
            assert not (inside[..., number] & part).any(), "contours overlap"
            inside[..., number] |= part
        found[int(region.ReferencedROINumber)] = inside
    return found


def dice(one: Array, other: Array) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("oblique", [False, True], ids=["axial", "oblique"])
def test_every_voxel_lies_in_the_contours_of_its_structure(
    oblique: bool, folder: Path, series: Series, tmp_path: Path
) -> None:
    mask = series.mask
    if oblique:
        edit_dicom(folder.iterdir(), lambda dicom, _: turn_slice(dicom))
        series = Series(folder)
        series.mask = mask
    found = rasterized(series.write(tmp_path / "rt.dcm"), series.affine, mask.shape)
    assert set(found) == {1, 2, 7, 205}
    for label in (1, 2, 7):
        assert dice(found[label], mask == label) == 1.0
    assert not found[205].any()


def test_areas_of_contours_are_those_of_the_mask_at_usual_resolution(tmp_path: Path) -> None:
    plane = ball((120, 120), (60, 55), 40, (1.0, 1.0)) & ~ball((120, 120), (60, 55), 12, (1.0, 1.0))
    area = 0.0
    for outline in outlines(plane):
        columns, rows = outline.T
        area += abs(np.dot(columns, np.roll(rows, 1)) - np.dot(rows, np.roll(columns, 1))) / 2
    assert area == pytest.approx(plane.sum(), rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_an_outline_is_one_loop_for_each_part_whatever_its_holes(seed: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(60, 70)), 0.8 + seed / 5)
    plane = noise > -0.1
    found = np.zeros_like(plane)
    for outline in outlines(plane):
        part = polygon2mask(plane.shape, outline[:, ::-1])
        assert not (found & part).any()
        found |= part
        steps = np.roll(outline, -1, axis=0) - outline
        assert (np.abs(steps).sum(axis=1) > 0).all()
    assert np.array_equal(found, plane)
    assert len(outlines(plane)) <= ndimage.label(plane, np.ones((3, 3)))[1] + ndimage.label(plane)[1]


def test_the_structure_set_refers_to_its_series_and_lies_in_its_frame(series: Series, tmp_path: Path) -> None:
    rtstruct = series.write(tmp_path / "rt.dcm")
    headers = {header.SOPInstanceUID: header for header in series.headers}
    first = series.headers[0]
    assert (rtstruct.Modality, rtstruct.SOPClassUID) == ("RTSTRUCT", RTStructureSetStorage)
    assert rtstruct.StudyInstanceUID == first.StudyInstanceUID
    assert rtstruct.SeriesInstanceUID != first.SeriesInstanceUID
    (frame,) = rtstruct.ReferencedFrameOfReferenceSequence
    assert {rtstruct.FrameOfReferenceUID, frame.FrameOfReferenceUID} == {first.FrameOfReferenceUID}
    (study,) = frame.RTReferencedStudySequence
    (source,) = study.RTReferencedSeriesSequence
    assert study.ReferencedSOPInstanceUID == first.StudyInstanceUID
    assert source.SeriesInstanceUID == first.SeriesInstanceUID
    assert {image.ReferencedSOPInstanceUID for image in source.ContourImageSequence} == set(headers)
    for region in rtstruct.StructureSetROISequence:
        assert region.ReferencedFrameOfReferenceUID == first.FrameOfReferenceUID
    for region in rtstruct.ROIContourSequence:
        for contour in region.get("ContourSequence", ()):
            (image,) = contour.ContourImageSequence
            header = headers[image.ReferencedSOPInstanceUID]
            assert image.ReferencedSOPClassUID == header.SOPClassUID
            heights = np.reshape(np.asarray(contour.ContourData, float), (-1, 3))[:, 2]
            assert np.allclose(heights, float(header.ImagePositionPatient[2]))


def test_a_series_without_a_frame_of_reference_gets_one_of_its_own(
    folder: Path, series: Series, tmp_path: Path
) -> None:
    edit_dicom(folder.iterdir(), lambda dicom, _: delattr(dicom, "FrameOfReferenceUID"))
    first, second = (series.write(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert {roi.ReferencedFrameOfReferenceUID for roi in first.StructureSetROISequence} == {first.FrameOfReferenceUID}


def test_names_codes_and_colors_are_those_of_the_structures(series: Series, tmp_path: Path) -> None:
    own = {
        "lump": {
            "color": "#0a141e",
            "category": ["49755003", "SCT", "Morphologically Altered Structure"],
            "type": ["4147007", "SCT", "Mass"],
        }
    }
    rtstruct = series.write(tmp_path / "rt.dcm", own)
    assert {roi.ROINumber: roi.ROIName for roi in rtstruct.StructureSetROISequence} == {
        label: name for label, name in LABELS.items() if label
    }
    colors = {region.ReferencedROINumber: list(region.ROIDisplayColor) for region in rtstruct.ROIContourSequence}
    assert colors[7] == [10, 20, 30]
    assert colors[1] == [0xE6, 0x19, 0x4B]
    seen = {one.ReferencedROINumber: one for one in rtstruct.RTROIObservationsSequence}
    kinds = {label: one.RTROIIdentificationCodeSequence[0] for label, one in seen.items()}
    assert (kinds[1].CodeValue, kinds[1].CodingSchemeDesignator, kinds[1].CodeMeaning) == ("10200004", "SCT", "Liver")
    assert kinds[2].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Right"
    assert kinds[7].CodeValue == "4147007"
    assert (seen[1].RTROIInterpretedType, seen[7].RTROIInterpretedType) == ("ORGAN", "")


def test_the_patient_is_the_one_of_the_series(folder: Path, series: Series, tmp_path: Path) -> None:
    edit_dicom(folder.iterdir(), lambda dicom, _: name_patient(dicom))
    rtstruct = series.write(tmp_path / "rt.dcm")
    assert (str(rtstruct.PatientName), rtstruct.PatientID, rtstruct.PatientSex) == ("Müller^Jörg", "id-0815", "F")
    assert rtstruct.SpecificCharacterSet == "ISO_IR 192"


def test_an_empty_mask_gives_an_object_with_every_structure_and_no_contour(series: Series, tmp_path: Path) -> None:
    rtstruct = series.write(tmp_path / "rt.dcm", mask=np.zeros_like(series.mask))
    assert len(rtstruct.StructureSetROISequence) == 4
    assert not any("ContourSequence" in region for region in rtstruct.ROIContourSequence)


def test_what_does_not_belong_together_is_refused_and_nothing_is_left(series: Series, tmp_path: Path) -> None:
    path = tmp_path / "out" / "rt.dcm"
    other = series.affine.copy()
    other[0, 3] += 1
    assert "made from another scan" in refusal(lambda: series.write(path, affine=other))
    assert "keep every slice" in refusal(lambda: series.write(path, files=series.files[1:]))
    assert "holds 3" in refusal(lambda: series.write(path, mask=np.full_like(series.mask, 3)))
    assert not path.parent.exists()
