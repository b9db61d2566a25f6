"""scripts/prepare_abdomen.py, run as a user does on small folders laid out as the CHAOS and BTCV downloads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from builders import assert_refused, names, read_json
from conftest import run_script
from monai.transforms import LoadImage
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from sifa.data.dataset_json import read_dataset

ROWS, COLUMNS, SLICES = 6, 8, 5
PIXEL_SPACING = (1.5, 1.25)  # mm, between rows and between columns
SLOPE, INTERCEPT = 2.0, -3.0
GRAYS = (0, 63, 126, 189, 252, 55, 70, 110, 135, 175, 200, 240, 255)
EXPECTED_CLASSES = {
    **{0: 0, 63: 1, 126: 2, 189: 3, 252: 4},
    **{55: 1, 70: 1, 110: 2, 135: 2, 175: 3, 200: 3, 240: 4, 255: 4},
}
CT_SHAPE = (5, 4, 3)
CT_AFFINE = np.array([[-0.8, 0.0, 0.0, 10.0], [0.0, 0.8, 0.0, -20.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
EXPECTED_BTCV_CLASSES = np.array([0, 4, 2, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])  # index: BTCV value 0 to 13

AXIAL = np.eye(3)[:2]  # along a row: to the left; along a column: to the back (DICOM counts LPS)
ANGLE = np.deg2rad(20)
OBLIQUE = np.array([[np.cos(ANGLE), 0.0, -np.sin(ANGLE)], [0.0, 1.0, 0.0]])
MARKER = {"file": 1, "row": 4, "column": 2}  # nowhere near a symmetry of the volume


def slice_position(orientation: npt.NDArray[Any], step: float, index: int) -> npt.NDArray[Any]:
    """Returns where the center of the first pixel of a slice lies, in mm, LPS."""
    return np.array([-40.0, 15.0, 100.0]) + index * step * np.cross(*orientation)


def make_series(folder: Path, orientation: npt.NDArray[Any], step: float, seed: int) -> None:
    """Writes a T2-SPIR series with ground truth; file `index` lies `index * step` mm along the slice normal.

    A marker pixel has the stored value 999 in the DICOM file and gray 252 in its PNG; no other pixel has either.
    """
    generator = np.random.default_rng(seed)
    (folder / "DICOM_anon").mkdir(parents=True)
    (folder / "Ground").mkdir()
    for index in range(SLICES):
        pixels = generator.integers(0, 500, size=(ROWS, COLUMNS)).astype(np.uint16)
        gray = generator.choice([value for value in GRAYS if value != 252], size=(ROWS, COLUMNS)).astype(np.uint8)
        if index == MARKER["file"]:
            pixels[MARKER["row"], MARKER["column"]] = 999
            gray[MARKER["row"], MARKER["column"]] = 252
        name = f"IMG-0004-{index + 1:05d}"
        write_dicom(
            folder / "DICOM_anon" / f"{name}.dcm", pixels, orientation, slice_position(orientation, step, index)
        )
        Image.fromarray(gray).save(folder / "Ground" / f"{name}.png")


def write_dicom(
    path: Path, pixels: npt.NDArray[Any], orientation: npt.NDArray[Any], position: npt.NDArray[Any]
) -> None:
    """Writes one MR slice of shape (rows, columns)."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dicom = pydicom.dataset.FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    dicom.SOPClassUID = meta.MediaStorageSOPClassUID
    dicom.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dicom.StudyInstanceUID = generate_uid(entropy_srcs=[str(path.parent), "study"])
    dicom.SeriesInstanceUID = generate_uid(entropy_srcs=[str(path.parent), "series"])
    dicom.Modality = "MR"
    dicom.Rows, dicom.Columns = pixels.shape
    dicom.PixelSpacing = list(PIXEL_SPACING)
    dicom.ImageOrientationPatient = [f"{value:.10f}" for value in orientation.ravel()]
    dicom.ImagePositionPatient = [f"{value:.8f}" for value in position]
    dicom.SamplesPerPixel, dicom.PhotometricInterpretation = 1, "MONOCHROME2"
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation = 16, 16, 15, 0
    dicom.RescaleSlope, dicom.RescaleIntercept = SLOPE, INTERCEPT
    dicom.PixelData = pixels.tobytes()
    dicom.save_as(path, enforce_file_format=True)


def make_chaos(root: Path) -> Path:
    """Writes five subjects, among them straight and oblique ones, upward and downward, and returns their MR folder."""
    mr = root / "Train_Sets" / "MR"
    kinds = {"1": (AXIAL, 4.0), "2": (AXIAL, -4.0), "3": (OBLIQUE, 4.0), "10": (OBLIQUE, -4.0), "31": (AXIAL, 7.7)}
    for seed, (subject, (orientation, step)) in enumerate(kinds.items()):
        make_series(mr / subject / "T2SPIR", orientation, step, seed)
    return mr


def make_btcv(root: Path, count: int = 5) -> Path:
    """Writes `count` volumes whose labels hold every value, and returns the Training folder."""
    training = root / "RawData" / "Training"
    for name in ("img", "label"):
        (training / name).mkdir(parents=True)
    for index in range(1, count + 1):
        generator = np.random.default_rng(index)
        image = generator.integers(-1000, 1000, size=CT_SHAPE).astype(np.int16)
        label = generator.permutation(np.arange(np.prod(CT_SHAPE)) % 14).reshape(CT_SHAPE).astype(np.uint8)
        nib.save(nib.Nifti1Image(image, CT_AFFINE), training / "img" / f"img{index:04d}.nii.gz")
        nib.save(nib.Nifti1Image(label, CT_AFFINE), training / "label" / f"label{index:04d}.nii.gz")
    (root / "RawData" / "Testing" / "img").mkdir(parents=True)
    shutil.copy(training / "img" / "img0001.nii.gz", root / "RawData" / "Testing" / "img" / "img0061.nii.gz")
    return training


def run(chaos: Path, btcv: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the script from a foreign working folder, as a user may."""
    folders = ["--chaos", str(chaos), "--btcv", str(btcv), "--output_dir", str(output)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(output.parent)
        return run_script("prepare_abdomen.py", *folders, *options, check=False)


def load(path: Path) -> nib.Nifti1Image:
    """Returns a NIfTI file."""
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both downloads in it; tests read it, and copy what they change."""
    root = tmp_path_factory.mktemp("downloads")
    make_chaos(root / "chaos")
    make_btcv(root / "btcv")
    return root


@pytest.fixture(scope="module")
def prepared(downloads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set folder that the defaults write."""
    output = tmp_path_factory.mktemp("prepared") / "abdomen"
    result = run(downloads / "chaos", downloads / "btcv", output)
    assert result.returncode == 0, result.stderr
    return output


@pytest.fixture
def own_chaos(downloads: Path, tmp_path: Path) -> Path:
    """A copy of the CHAOS download, and in it the T2SPIR folder of subject 10, for a test to spoil."""
    shutil.copytree(downloads / "chaos", tmp_path / "chaos")
    return tmp_path / "chaos" / "Train_Sets" / "MR" / "10" / "T2SPIR"


SUBJECTS = {"mr_01": ("1", AXIAL, 4.0), "mr_02": ("2", AXIAL, -4.0), "mr_03": ("3", OBLIQUE, 4.0)}
SUBJECTS |= {"mr_10": ("10", OBLIQUE, -4.0), "mr_31": ("31", AXIAL, 7.7)}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_marker_lands_at_its_patient_coordinate_in_image_and_label(prepared: Path, subject: str) -> None:
    _, orientation, step = SUBJECTS[subject]
    left_back_up = (
        slice_position(orientation, step, MARKER["file"])
        + MARKER["column"] * PIXEL_SPACING[1] * orientation[0]
        + MARKER["row"] * PIXEL_SPACING[0] * orientation[1]
    )
    expected = left_back_up * (-1, -1, 1)
    for folder, value in (("mr_images", 999 * SLOPE + INTERCEPT), ("mr_labels", 4)):
        image = load(prepared / folder / f"{subject}.nii.gz")
        voxels = np.asanyarray(image.dataobj)
        if folder == "mr_labels":
            # other grays of the spleen's range are class 4 as well: the marker is where the image's marker is
            voxel = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), expected)).astype(int)
            assert voxels[tuple(voxel)] == value
        else:
            (voxel,) = np.argwhere(voxels == value)
        np.testing.assert_allclose(nib.affines.apply_affine(image.affine, voxel), expected, atol=1e-4)
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_voxels_and_affine_equal_what_monai_reads_from_the_dicom_folder(
    prepared: Path, downloads: Path, subject: str
) -> None:
    series = downloads / "chaos" / "Train_Sets" / "MR" / SUBJECTS[subject][0] / "T2SPIR" / "DICOM_anon"
    expected = LoadImage(reader="ITKReader", image_only=True)(series)
    written = LoadImage(image_only=True)(prepared / "mr_images" / f"{subject}.nii.gz")
    np.testing.assert_allclose(written.affine, expected.affine, atol=1e-4)
    np.testing.assert_array_equal(written.numpy(), expected.numpy())


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_voxel_of_an_mr_label_holds_the_class_of_its_gray_value(
    prepared: Path, downloads: Path, subject: str
) -> None:
    number, _, step = SUBJECTS[subject]
    pngs = sorted((downloads / "chaos" / "Train_Sets" / "MR" / number / "T2SPIR" / "Ground").iterdir())
    upward = pngs if step > 0 else pngs[::-1]
    grays = np.stack([np.asarray(Image.open(path)) for path in upward], axis=-1)  # rows, columns, slices
    expected = np.vectorize(EXPECTED_CLASSES.__getitem__)(grays).swapaxes(0, 1)
    label = load(prepared / "mr_labels" / f"{subject}.nii.gz")
    assert label.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(label.dataobj), expected)


def test_every_voxel_of_a_ct_label_holds_the_class_of_its_value(prepared: Path, downloads: Path) -> None:
    written = sorted([*prepared.glob("ct_test_labels/*"), *prepared.glob("ct_training_labels/*")])
    assert len(written) == 5
    for path in written:
        source = downloads / "btcv" / "RawData" / "Training" / "label" / path.name.replace("ct_", "label")
        label = load(path)
        np.testing.assert_array_equal(label.affine, load(source).affine)
        expected = EXPECTED_BTCV_CLASSES[np.asanyarray(load(source).dataobj)]
        np.testing.assert_array_equal(np.asanyarray(label.dataobj), expected)


def test_the_description_is_split_80_to_20_by_subject_and_hides_target_training_labels(prepared: Path) -> None:
    dataset = read_json(prepared / "dataset.json")
    assert dataset["slice_plane"] == "axial"
    assert list(dataset["labels"].values()) == ["background", "liver", "right kidney", "left kidney", "spleen"]
    training, validation = names(dataset["source"]["training"]), names(dataset["source"]["validation"])
    assert (len(training), len(validation)) == (4, 1)
    assert sorted(training + validation) == sorted(SUBJECTS)
    training, test = names(dataset["target"]["training"]), names(dataset["target"]["test"])
    assert (len(training), len(test)) == (4, 1)
    assert sorted(training + test) == [f"ct_000{index}" for index in range(1, 6)]
    assert all(set(case) == {"image"} for case in dataset["target"]["training"])
    assert "validation" not in dataset["target"]
    for case in dataset["source"]["training"] + dataset["target"]["training"] + dataset["target"]["test"]:
        assert all((prepared / path).is_file() for path in case.values())


def test_the_upper_bound_trains_on_labels_of_the_same_target_subjects(prepared: Path) -> None:
    dataset, supervised = read_json(prepared / "dataset.json"), read_json(prepared / "supervised.json")
    assert supervised["source"]["modality"] == supervised["target"]["modality"] == "CT"
    assert names(supervised["source"]["training"]) == names(dataset["target"]["training"])
    assert all((prepared / case["label"]).is_file() for case in supervised["source"]["training"])
    assert set(supervised["target"]) == {"modality", "test"}
    assert supervised["target"]["test"] == dataset["target"]["test"]


def test_the_bundle_reads_what_was_written(prepared: Path) -> None:
    assert len(read_dataset(prepared / "dataset.json").target_test) == 1
    assert len(read_dataset(prepared / "supervised.json", needs_target=False).source_training) == 4


def test_the_innermost_folders_of_the_downloads_give_the_same_description(
    prepared: Path, downloads: Path, tmp_path: Path
) -> None:
    mr, training = downloads / "chaos" / "Train_Sets" / "MR", downloads / "btcv" / "RawData" / "Training"
    result = run(mr, training, tmp_path / "abdomen")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "abdomen" / "dataset.json").read_bytes() == (prepared / "dataset.json").read_bytes()


def test_a_gray_value_of_no_organ_is_refused_by_file_and_value(own_chaos: Path, downloads: Path) -> None:
    png = own_chaos / "Ground" / "IMG-0004-00002.png"
    gray = np.array(Image.open(png))
    gray[0, 0] = 90
    Image.fromarray(gray).save(png)
    output = own_chaos.parents[4] / "abdomen"
    train_sets = own_chaos.parents[2]
    assert_refused(run(train_sets, downloads / "btcv", output), str(png), "90", "55-70")
    assert not (output / "dataset.json").exists()


def test_an_unknown_ct_label_value_is_refused_by_file_and_value(downloads: Path, tmp_path: Path) -> None:
    path = make_btcv(tmp_path, count=2) / "label" / "label0002.nii.gz"
    nib.save(nib.Nifti1Image(np.full(CT_SHAPE, 14, np.uint8), CT_AFFINE), path)
    assert_refused(run(downloads / "chaos", tmp_path, tmp_path / "abdomen"), str(path), "14", "0-13")


def test_a_slice_without_ground_truth_is_refused(own_chaos: Path, downloads: Path) -> None:
    (own_chaos / "Ground" / "IMG-0004-00002.png").unlink()
    result = run(own_chaos.parents[3], downloads / "btcv", own_chaos.parents[4] / "abdomen")
    assert_refused(result, str(own_chaos), "5 DICOM_anon/*.dcm and 4 Ground/*.png")


def test_ground_truth_of_other_slices_is_refused(own_chaos: Path, downloads: Path) -> None:
    (own_chaos / "Ground" / "IMG-0004-00002.png").rename(own_chaos / "Ground" / "IMG-0004-00009.png")
    result = run(own_chaos.parents[3], downloads / "btcv", own_chaos.parents[4] / "abdomen")
    assert_refused(result, str(own_chaos), "IMG-0004-00002")


def test_a_stack_with_a_missing_slice_is_refused(own_chaos: Path, downloads: Path) -> None:
    (own_chaos / "Ground" / "IMG-0004-00002.png").unlink()
    (own_chaos / "DICOM_anon" / "IMG-0004-00002.dcm").unlink()
    result = run(own_chaos.parents[3], downloads / "btcv", own_chaos.parents[4] / "abdomen")
    assert_refused(result, str(own_chaos / "DICOM_anon"), "not an evenly spaced stack")


def test_a_png_of_another_size_is_refused(own_chaos: Path, downloads: Path) -> None:
    png = own_chaos / "Ground" / "IMG-0004-00003.png"
    Image.fromarray(np.zeros((COLUMNS, ROWS), np.uint8)).save(png)
    result = run(own_chaos.parents[3], downloads / "btcv", own_chaos.parents[4] / "abdomen")
    assert_refused(result, str(png), "8 x 6", "6 x 8")


def test_a_folder_without_the_expected_series_is_refused(downloads: Path, tmp_path: Path) -> None:
    result = run(downloads / "btcv", downloads / "btcv", tmp_path / "abdomen")
    assert_refused(result, str(downloads / "btcv"), "T2SPIR", "--chaos")
    assert not (tmp_path / "abdomen").exists()


def test_a_folder_without_ct_volumes_is_refused(downloads: Path, tmp_path: Path) -> None:
    result = run(downloads / "chaos", downloads / "chaos", tmp_path / "abdomen")
    assert_refused(result, str(downloads / "chaos"), "img0001.nii.gz", "--btcv")


def test_a_ct_image_without_label_is_refused(downloads: Path, tmp_path: Path) -> None:
    (make_btcv(tmp_path) / "label" / "label0003.nii.gz").unlink()
    result = run(downloads / "chaos", tmp_path, tmp_path / "abdomen")
    assert_refused(result, "img/img0003.nii.gz has no label")
