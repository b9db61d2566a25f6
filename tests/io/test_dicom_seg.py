"""DICOM SEG: every voxel, code and reference of the object, read back with pydicom alone and with highdicom."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from builders import Array, edit_dicom, name_patient, refusal, turn_slice, write_dicom_series
from monai.transforms import LoadImage
from pydicom.sr.codedict import codes as known_codes
from pydicom.uid import UID, CTImageStorage, generate_uid
from sifa.io import dicom_seg
from sifa.io.dicom_seg import has_highdicom, highdicom, require_highdicom, write_dicom_seg
from sifa.io.terminology import GENERIC, check_terms, read_terminology, structure_terms

LABELS = {0: "background", 1: "liver", 2: "right kidney", 3: "spleen", 4: "adrenal lump", 5: "left kidney"}
ABSENT = {3, 5}

needs_highdicom = pytest.mark.skipif(not has_highdicom, reason="highdicom is not installed: pip install highdicom")


class Series:
    """A series on disk, as MONAI loads it, and a mask on its grid that leaves out the labels `ABSENT`."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.iterdir())
        image = LoadImage()(folder)
        self.image, self.affine = image.numpy(), image.affine.numpy()
        self.mask = np.zeros(self.image.shape, np.uint8)

    @property
    def headers(self) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(file, stop_before_pixels=True) for file in self.files]

    def write(self, path: Path, **changes: Any) -> pydicom.Dataset:
        """Writes the mask, reads the object back."""
        given = {"mask": self.mask, "affine": self.affine, "files": self.files, "labels": LABELS}
        write_dicom_seg(**{**given, "path": path, "model": "SIFA", "version": "1.2", **changes})
        return pydicom.dcmread(path)

    def refused(self, path: Path, **changes: Any) -> str:
        """Returns how the same is refused; nothing may be left behind."""
        message = refusal(lambda: self.write(path, **changes))
        assert not path.parent.exists() or not list(path.parent.iterdir())
        return message


def edit(folder: Path, change: Callable[[pydicom.Dataset], None]) -> None:
    """Changes every file of a series."""
    edit_dicom(folder.iterdir(), lambda dicom, _: change(dicom))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A series of 8 x 6 pixels and 5 slices, whose file names say nothing of the order of slices."""
    generator = np.random.default_rng(0)
    folder = write_dicom_series(tmp_path / "series", generator.integers(-900, 900, (8, 6, 5)), (0.7, 1.3, 2.5))
    for file, number in zip(sorted(folder.iterdir()), generator.permutation(5), strict=True):
        file.rename(folder / f"image{number}")
    return folder


@pytest.fixture
def series(folder: Path) -> Series:
    """That series, with a mask whose first slice is empty."""
    series = Series(folder)
    series.mask = np.random.default_rng(1).choice(np.asarray([0, 1, 2, 4], np.uint8), series.image.shape)
    series.mask[..., 0] = 0
    series.mask[..., 2][series.mask[..., 2] == 2] = 1  # slice 2 lacks the right kidney
    return series


def frames(seg: pydicom.Dataset) -> list[tuple[int, Array, Array, list[str]]]:
    """Returns of each frame: segment, pixels (rows, columns), position in mm (LPS) and source images."""
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    return [
        (
            int(item.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
            plane,
            np.asarray(item.PlanePositionSequence[0].ImagePositionPatient, float),
            [str(source.ReferencedSOPInstanceUID) for source in item.DerivationImageSequence[0].SourceImageSequence],
        )
        for item, plane in zip(seg.PerFrameFunctionalGroupsSequence, pixels, strict=True)
    ]


def rebuilt(seg: pydicom.Dataset, affine: Array, shape: Sequence[int]) -> Array:
    """Returns the label map (X, Y, Z) on the grid of `affine`, put together by what each frame says of itself."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    to_ras = np.asarray([-1.0, -1.0, 1.0])
    assert np.allclose(affine[:3, 0], orientation[:3] * between_columns * to_ras)
    assert np.allclose(affine[:3, 1], orientation[3:] * between_rows * to_ras)
    labels = np.zeros(shape, np.uint8)
    for segment, plane, position, _ in frames(seg):
        index = np.linalg.solve(affine[:3, :3], position * to_ras - affine[:3, 3])
        assert np.allclose(index, [0, 0, round(index[2])], atol=1e-4)
        part = labels[..., round(index[2])]
        assert not (part[plane.T > 0]).any(), "segments overlap"
        part[plane.T > 0] = segment
    return labels


def read_with_highdicom(path: Path, affine: Array, shape: Sequence[int]) -> Array:
    """Returns the same as highdicom reads it, whose volume spans the slices that have frames."""
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    labels = np.zeros(shape, np.uint8)
    from_volume = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    for number, plane in enumerate(volume.array):
        index = (from_volume @ [number, 0, 0, 1])[:3]
        assert np.allclose(index, [0, 0, round(index[2])], atol=1e-4)
        labels[..., round(index[2])] = plane.T
    return labels


def code(item: pydicom.Dataset) -> tuple[str, str, str]:
    return item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning


@needs_highdicom
@pytest.mark.parametrize("oblique", [False, True], ids=["axial", "oblique"])
def test_every_voxel_comes_back_in_its_place(folder: Path, tmp_path: Path, series: Series, oblique: bool) -> None:
    mask = series.mask
    if oblique:
        edit(folder, turn_slice)
        series = Series(folder)
        series.mask = mask
        assert np.abs(series.affine[:3, :3]).min() > 0.01  # oblique in all axes as MONAI sees it, too
    path = tmp_path / "out" / "seg.dcm"
    seg = series.write(path)
    assert set(np.unique(mask)) == {0, 1, 2, 4}
    assert np.array_equal(rebuilt(seg, series.affine, mask.shape), mask)
    assert np.array_equal(read_with_highdicom(path, series.affine, mask.shape), mask)
    assert [file.name for file in path.parent.iterdir()] == ["seg.dcm"]
    assert (seg.Modality, seg.SegmentationType) == ("SEG", "BINARY")


@needs_highdicom
def test_a_series_whose_slices_run_downward_in_its_files_comes_back_the_same(series: Series, tmp_path: Path) -> None:
    by_height = sorted(series.files, key=lambda file: -pydicom.dcmread(file).ImagePositionPatient[2])
    seg = series.write(tmp_path / "out" / "seg.dcm", files=by_height)
    assert np.array_equal(rebuilt(seg, series.affine, series.mask.shape), series.mask)


@needs_highdicom
def test_files_without_the_preamble_are_taken_as_the_reader_takes_them(series: Series, tmp_path: Path) -> None:
    for file in series.files:
        file.write_bytes(file.read_bytes()[132:])
    seg = series.write(tmp_path / "seg.dcm")
    assert np.array_equal(rebuilt(seg, series.affine, series.mask.shape), series.mask)


@needs_highdicom
def test_structures_that_are_absent_are_described_and_have_no_frame(series: Series, tmp_path: Path) -> None:
    seg = series.write(tmp_path / "seg.dcm")
    described = {int(item.SegmentNumber): item.SegmentLabel for item in seg.SegmentSequence}
    assert described == {label: name for label, name in LABELS.items() if label}
    assert {segment for segment, *_ in frames(seg)} == set(described) - ABSENT
    assert len(frames(seg)) == sum(
        (series.mask[..., slice_] == label).any() for slice_ in range(5) for label in described
    )
    assert highdicom.seg.segread(tmp_path / "seg.dcm").number_of_segments == 5


@needs_highdicom
def test_values_of_masks_that_are_not_the_numbers_of_segments_are_in_their_descriptions(
    series: Series, tmp_path: Path
) -> None:
    plain = series.write(tmp_path / "plain.dcm", values={})
    found = series.write(tmp_path / "seg.dcm", values={0: 0, 1: 6, 2: 2, 3: 1, 4: 205, 5: 3})

    assert not any("SegmentDescription" in segment for segment in plain.SegmentSequence)
    assert [segment.SegmentNumber for segment in found.SegmentSequence] == [1, 2, 3, 4, 5]  # as DICOM demands
    values = [segment.SegmentDescription for segment in found.SegmentSequence]
    assert values == [f"label value {value}" for value in (6, 2, 1, 205, 3)]
    assert np.array_equal(found.pixel_array, plain.pixel_array)


@needs_highdicom
def test_an_empty_mask_gives_an_object_with_every_structure_and_no_voxel(series: Series, tmp_path: Path) -> None:
    seg = series.write(tmp_path / "seg.dcm", mask=np.zeros_like(series.mask))
    assert [item.SegmentLabel for item in seg.SegmentSequence] == list(LABELS.values())[1:]
    assert not seg.pixel_array.any()
    assert len(frames(seg)) == 5  # one a segment, not one a segment and slice
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 5
    assert not read_with_highdicom(tmp_path / "seg.dcm", series.affine, series.mask.shape).any()


@needs_highdicom
def test_a_single_slice_is_enough(tmp_path: Path) -> None:
    one = Series(write_dicom_series(tmp_path / "series", np.zeros((5, 4, 1)), (1.0, 2.0, 3.0)))
    one.mask[1, 2] = 1
    seg = one.write(tmp_path / "seg.dcm")
    assert np.array_equal(rebuilt(seg, one.affine, one.mask.shape), one.mask)


@needs_highdicom
def test_the_object_belongs_to_the_study_and_series_it_was_made_from(series: Series, tmp_path: Path) -> None:
    seg = series.write(tmp_path / "seg.dcm")
    headers = series.headers
    assert seg.StudyInstanceUID == headers[0].StudyInstanceUID
    assert seg.SeriesInstanceUID != headers[0].SeriesInstanceUID
    assert seg.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    [source] = seg.ReferencedSeriesSequence
    assert source.SeriesInstanceUID == headers[0].SeriesInstanceUID
    referenced = {item.ReferencedSOPInstanceUID for item in source.ReferencedInstanceSequence}
    assert referenced == {header.SOPInstanceUID for header in headers}
    at = {header.SOPInstanceUID: np.asarray(header.ImagePositionPatient, float) for header in headers}
    used = set()
    for _, _, position, sources in frames(seg):
        assert len(sources) == 1
        assert np.array_equal(at[sources[0]], position)
        used.update(sources)
    assert len(used) == 4  # the empty slice is none of them
    assert list(seg.ImageType[:2]) == ["DERIVED", "PRIMARY"]


@needs_highdicom
def test_identifiers_of_slices_that_are_blank_are_taken_from_the_header_of_the_file(
    folder: Path, series: Series, tmp_path: Path
) -> None:
    wanted = {header.SOPInstanceUID for header in series.headers}

    def blank(dicom: pydicom.Dataset) -> None:
        dicom.SOPClassUID, dicom.SOPInstanceUID = "", ""

    edit(folder, blank)
    seg = series.write(tmp_path / "seg.dcm")
    [source] = seg.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in source.ReferencedInstanceSequence} == wanted
    assert {item.ReferencedSOPClassUID for item in source.ReferencedInstanceSequence} == {CTImageStorage}
    assert np.array_equal(rebuilt(seg, series.affine, series.mask.shape), series.mask)


@needs_highdicom
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "ImagePositionPatient"])
def test_what_nothing_can_stand_in_for_is_named_with_what_to_do(
    keyword: str, folder: Path, series: Series, tmp_path: Path
) -> None:
    edit(folder, lambda dicom: setattr(dicom, keyword, None))
    message = series.refused(tmp_path / "out" / "seg.dcm")
    assert message.startswith(f"{series.files[0]}: it lacks {keyword}, and")
    assert "with new UIDs in place of those that de-identification takes away" in message


@needs_highdicom
@pytest.mark.parametrize("value", ["", None])
def test_a_series_without_a_frame_of_reference_gets_one_of_its_own(
    value: str | None, folder: Path, series: Series, tmp_path: Path
) -> None:
    def blank(dicom: pydicom.Dataset) -> None:
        if value is None:
            del dicom.FrameOfReferenceUID
        else:
            dicom.FrameOfReferenceUID = value

    edit(folder, blank)
    first, second = series.write(tmp_path / "first.dcm"), series.write(tmp_path / "second.dcm")
    assert UID(first.FrameOfReferenceUID).is_valid
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    other = Series(write_dicom_series(tmp_path / "other", np.zeros((8, 6, 5)), (0.7, 1.3, 2.5)))
    edit(tmp_path / "other", blank)
    assert other.write(tmp_path / "other.dcm").FrameOfReferenceUID != first.FrameOfReferenceUID
    assert np.array_equal(rebuilt(first, series.affine, series.mask.shape), series.mask)
    assert np.array_equal(read_with_highdicom(tmp_path / "first.dcm", series.affine, series.mask.shape), series.mask)


@needs_highdicom
def test_slices_that_lack_the_frame_of_reference_of_their_series_share_it(
    folder: Path, series: Series, tmp_path: Path
) -> None:
    wanted = series.headers[0].FrameOfReferenceUID
    dicom = pydicom.dcmread(series.files[0])
    del dicom.FrameOfReferenceUID
    dicom.save_as(series.files[0])
    assert series.write(tmp_path / "seg.dcm").FrameOfReferenceUID == wanted


@needs_highdicom
def test_the_spacing_of_slices_is_that_of_the_grid_even_where_slices_overlap(folder: Path, tmp_path: Path) -> None:
    edit(folder, lambda dicom: setattr(dicom, "SliceThickness", "5"))
    series = Series(folder)
    series.mask[2, 3, [0, 4]] = 1  # slices between them have no frame
    seg = series.write(tmp_path / "seg.dcm")
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (float(measures.SpacingBetweenSlices), float(measures.SliceThickness)) == (2.5, 5.0)
    assert np.array_equal(read_with_highdicom(tmp_path / "seg.dcm", series.affine, series.mask.shape), series.mask)


@needs_highdicom
def test_segments_say_what_they_are_and_which_model_made_them(series: Series, tmp_path: Path) -> None:
    names = ["background", "Liver", "right kidney", "left kidney", "spleen"]
    seg = series.write(tmp_path / "seg.dcm", labels={str(label): name for label, name in enumerate(names)})
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in seg.SegmentSequence]
    kidney = ("64033007", "SCT", "Kidney")
    liver, spleen = ("10200004", "SCT", "Liver"), ("78961009", "SCT", "Spleen")
    assert [code(item) for item in types] == [liver, kidney, kidney, spleen]
    sides = [item.get("SegmentedPropertyTypeModifierCodeSequence") for item in types]
    assert [side and code(side[0]) for side in sides] == [
        None,
        ("24028007", "SCT", "Right"),
        ("7771000", "SCT", "Left"),
        None,
    ]
    for item in seg.SegmentSequence:
        assert code(item.SegmentedPropertyCategoryCodeSequence[0]) == ("123037004", "SCT", "Anatomical Structure")
        assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("AUTOMATIC", "SIFA")
        [algorithm] = item.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("SIFA", "1.2")
    assert (seg.ManufacturerModelName, seg.SoftwareVersions) == ("SIFA", "1.2")


@needs_highdicom
def test_an_unknown_structure_is_an_anatomical_structure_under_its_own_name(series: Series, tmp_path: Path) -> None:
    name = "große Struktur \\ " + "x" * 80
    seg = series.write(tmp_path / "seg.dcm", labels={**LABELS, 4: name})
    segment = seg.SegmentSequence[3]
    assert segment.SegmentLabel == name.replace("\\", "/")[:64]
    assert code(segment.SegmentedPropertyCategoryCodeSequence[0])[0] == "123037004"
    assert code(segment.SegmentedPropertyTypeCodeSequence[0]) == ("91723000", "SCT", "Anatomical structure")


@needs_highdicom
def test_the_patient_is_named_where_dicom_wants_it_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    edit(folder, name_patient)
    series = Series(folder)
    series.mask[2, 3, 1] = 1
    path = tmp_path / "out" / "seg.dcm"
    seg = series.write(path)
    assert (str(seg.PatientName), seg.PatientID, seg.PatientSex) == ("Müller^Jörg", "id-0815", "F")
    assert seg.PatientBirthDate == "19450000"
    assert seg.StudyDescription == "Herz für Müller"
    assert seg.ProcedureCodeSequence[0].CodeMeaning == "Wächter"
    assert seg.SeriesDescription == "Segmentation by SIFA"
    assert not seg.get("ContentCreatorName")
    named = [element.keyword for element in seg.iterall() if "ller" in str(element.value) and element.VR != "SQ"]
    assert sorted(named) == ["PatientName", "StudyDescription"]
    assert [file.name for file in path.parent.iterdir()] == ["seg.dcm"]


@needs_highdicom
@pytest.mark.parametrize(
    ("offset", "scale"),
    [((0, 0, 1.25), 1.0), ((0.35, 0, 0), 1.0), ((0, 13, 0), 1.0), ((0, 0, 0), 1.05)],
    ids=["half a slice", "half a column", "ten rows", "larger voxels"],
)
def test_a_mask_on_another_grid_is_refused(
    series: Series, tmp_path: Path, offset: Sequence[float], scale: float
) -> None:
    affine = series.affine.copy()
    affine[:3, 3] += offset
    affine[:3, :3] *= scale
    assert "does not lie on the grid" in series.refused(tmp_path / "out" / "seg.dcm", affine=affine)


@needs_highdicom
def test_a_mask_of_another_shape_is_refused(series: Series, tmp_path: Path) -> None:
    path = tmp_path / "out" / "seg.dcm"
    assert "the mask 6 and 8" in series.refused(path, mask=series.mask.transpose(1, 0, 2))
    assert "5 files at 5 positions, the mask 4 slices" in series.refused(path, mask=series.mask[..., :4])
    assert "4 files at 4 positions, the mask 5" in series.refused(path, files=series.files[1:])
    assert "6 files at 5 positions" in series.refused(path, files=[*series.files, series.files[0]])
    assert "(1, 8, 6, 5)" in series.refused(path, mask=series.mask[None])


@needs_highdicom
def test_a_tilted_gantry_is_refused(folder: Path, tmp_path: Path) -> None:
    def shear(dicom: pydicom.Dataset) -> None:
        x, y, z = dicom.ImagePositionPatient
        dicom.ImagePositionPatient = [x, y + 0.3 * z, z]

    edit(folder, shear)
    assert "tilted gantry" in Series(folder).refused(tmp_path / "out" / "seg.dcm")


@needs_highdicom
def test_files_that_are_no_series_are_refused(series: Series, tmp_path: Path) -> None:
    path = tmp_path / "out" / "seg.dcm"
    text = tmp_path / "notes.txt"
    text.write_text("not DICOM, whatever its length " * 9, encoding="utf-8")
    other = write_dicom_series(tmp_path / "other", np.zeros((8, 6, 1)))
    assert str(text) in series.refused(path, files=[*series.files, text])
    assert "cannot be read as DICOM" in series.refused(path, files=[*series.files, tmp_path / "absent"])
    assert "different series" in series.refused(path, files=[*series.files, *other.iterdir()])
    assert "no DICOM file" in series.refused(path, files=[])


@needs_highdicom
def test_labels_that_do_not_fit_the_mask_are_refused(series: Series, tmp_path: Path) -> None:
    path = tmp_path / "out" / "seg.dcm"
    assert "holds 4" in series.refused(path, labels={1: "liver", 2: "spleen"})
    assert "without gaps" in series.refused(path, labels={1: "liver", 2: "spleen", 4: "left kidney"})
    assert "without gaps" in series.refused(path, labels={0: "background"})


def test_every_code_is_one_that_pydicom_knows_by_the_same_meaning() -> None:
    terminology = read_terminology()
    assert len(terminology) == 8
    meanings: dict[str, set[str]] = {}
    for name in known_codes.SCT.dir():
        known = getattr(known_codes.SCT, name)
        meanings.setdefault(known.value, set()).add(known.meaning)
    for structure, entry in {**terminology, "any other": GENERIC}.items():
        for role in ("type", "modifier"):
            if role in entry:
                value, scheme, meaning, _ = entry[role]
                assert scheme == "SCT"
                assert meaning.lower() in {known.lower() for known in meanings[value]}, structure
    # What Slicer, dcmqi and MONAI Label call an anatomical structure is a body structure in SNOMED CT.
    assert {entry["category"].value for entry in terminology.values()} == {"123037004"}
    assert meanings["123037004"] == {"Body structure (body structure)"}
    assert known_codes.cid7162.ArtificialIntelligence == dicom_seg.ARTIFICIAL_INTELLIGENCE


def test_terminology_that_is_not_of_its_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "terminology.yaml"

    def refused(text: str) -> str:
        file.write_text(text, encoding="utf-8")
        return refusal(lambda: read_terminology(file))

    assert "cannot be read" in refusal(lambda: read_terminology(tmp_path / "absent.yaml"))
    assert "cannot be read" in refused("a: [")
    assert "in each entry" in refused("- liver")
    assert "'liver' needs a category and a type" in refused("liver: {type: ['1', SCT, Liver]}")
    assert "in quotes" in refused("liver: {type: [1, SCT, Liver], category: ['2', SCT, Organ]}")


def test_without_highdicom_one_sentence_says_how_to_get_it(
    series: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_seg, "has_highdicom", False)
    assert "pip install highdicom" in refusal(require_highdicom)
    assert "pip install highdicom" in series.refused(tmp_path / "out" / "seg.dcm")


@needs_highdicom
def test_a_real_jpeg_2000_series_comes_back_voxel_by_voxel(shared: Path, tmp_path: Path) -> None:
    source = shared / "scans" / "dicom_ct"
    if not source.is_dir():
        pytest.skip("the real series ../shared/data/scans/dicom_ct is absent here")
    path = tmp_path / "out" / "seg.dcm"
    real = Series(source)
    labels = {1: "left ventricle myocardium", 2: "ascending aorta", 3: "left atrium blood cavity"}
    real.mask[real.image > 200] = 1
    real.mask[(real.image > 20) & (real.image < 80)] = 2
    message = real.refused(path, labels=labels)  # of its identifiers, those of slices are left in the files' headers
    assert "it lacks StudyInstanceUID and SeriesInstanceUID, and" in message
    assert "export the series again" in message

    folder = tmp_path / "series"
    folder.mkdir()
    for file in source.iterdir():
        shutil.copyfile(file, folder / file.name)
    study, series_uid = generate_uid(), generate_uid()

    def restore(dicom: pydicom.Dataset) -> None:
        dicom.StudyInstanceUID, dicom.SeriesInstanceUID = study, series_uid

    edit(folder, restore)
    restored = Series(folder)
    assert np.array_equal(restored.affine, real.affine)
    restored.mask = real.mask
    seg = restored.write(path, labels=labels)
    assert np.array_equal(rebuilt(seg, real.affine, real.mask.shape), real.mask)
    assert np.array_equal(read_with_highdicom(path, real.affine, real.mask.shape), real.mask)
    assert seg.StudyInstanceUID == study
    assert not restored.headers[0].SOPInstanceUID  # it stands in the file's own header only
    instances = {header.file_meta.MediaStorageSOPInstanceUID for header in restored.headers}
    assert {source for *_, sources in frames(seg) for source in sources} <= instances
    assert len(seg.SegmentSequence) == 3
    assert {segment for segment, *_ in frames(seg)} == {1, 2}


@needs_highdicom
def test_own_colors_and_codes_stand_in_the_object_and_no_color_by_default(series: Series, tmp_path: Path) -> None:
    own = check_terms(
        {"liver": {"color": "#0a141e"}, "adrenal lump": {"type": ["4147007", "SCT", "Mass"]}}, LABELS, "own"
    )
    seg = series.write(tmp_path / "seg.dcm", terms=structure_terms(LABELS, own))
    liver, kidney, _, lump, _ = seg.SegmentSequence
    assert highdicom.color.CIELabColor.from_dicom_value(liver.RecommendedDisplayCIELabValue).to_rgb() == (10, 20, 30)
    assert code(liver.SegmentedPropertyTypeCodeSequence[0]) == ("10200004", "SCT", "Liver")
    assert code(lump.SegmentedPropertyTypeCodeSequence[0]) == ("4147007", "SCT", "Mass")
    assert "RecommendedDisplayCIELabValue" not in kidney
    plain = series.write(tmp_path / "plain.dcm")
    assert not any("RecommendedDisplayCIELabValue" in segment for segment in plain.SegmentSequence)
