"""The reader of scan files: the numbers and the place that the file gives, or an error."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
from builders import diagonal_affine, write_nifti
from conftest import BUNDLE
from monai.bundle import ConfigParser
from monai.transforms import LoadImage
from sifa.fingerprint.extractor import _load
from sifa.io.formats import files_of
from sifa.io.grids import grid_distance, read_grid
from sifa.io.nifti_files import mm_per_unit
from sifa.io.nifti_writer import write_mask
from sifa.io.scan_reader import ScanReader
from sifa.utils.errors import InputError

SPACING = (1.5, 2.0, 3.0)
READING = ("train#loading", "validate#loading")


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1500, (12, 10, 8)).astype(np.int16)


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the intensities and the affine that MONAI's transform gives with this reader."""
    image = LoadImage(reader=ScanReader(), image_only=True, dtype=None)(path)
    return np.asarray(image), np.asarray(image.affine)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "expected"),
    [
        (np.int16, 1.0, 0.0, np.int16),
        (np.int16, 1.0, -1024.0, np.int16),
        (np.int16, 2.0, -100.0, np.int16),
        (np.int16, 0.5, 0.0, np.float32),
        (np.int16, 1.0, -32000.0, np.float32),  # some values lie below the least of 16 bits
        (np.int32, 1.0, 0.0, np.float32),
        (np.float64, 1.0, 0.0, np.float32),
    ],
)
def test_values_are_scaled_and_as_small_as_they_can_be(
    stored: type, slope: float, intercept: float, expected: type, name: str, volume: np.ndarray, tmp_path: Path
) -> None:
    volume = np.repeat(volume, 3, axis=2)  # more slices than are read at once
    image = nib.Nifti1Image(volume.astype(stored), diagonal_affine(SPACING))
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, tmp_path / name)
    found, affine = load(tmp_path / name)
    assert found.dtype == expected
    assert found.flags.c_contiguous
    assert np.array_equal(found, volume * slope + intercept)
    assert np.array_equal(affine, diagonal_affine(SPACING))


def test_two_and_four_dimensions_are_read_as_they_are(volume: np.ndarray, tmp_path: Path) -> None:
    for name, data in (("flat", volume[:, :, 0]), ("four", np.stack([volume, volume + 1], axis=-1))):
        nib.save(nib.Nifti1Image(data, diagonal_affine(SPACING)), tmp_path / f"{name}.nii.gz")
        assert np.array_equal(load(tmp_path / f"{name}.nii.gz")[0], data)


@pytest.mark.parametrize("place", [-1, -8], ids=["length", "checksum"])
def test_a_checksum_that_does_not_match_is_an_error(volume: np.ndarray, place: int, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", volume, diagonal_affine(SPACING))
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"CRC check failed|Incorrect length"):
        load(path)


def test_a_compressed_file_that_lost_only_its_checksum_is_an_error(volume: np.ndarray, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", volume, diagonal_affine(SPACING))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(EOFError):
        load(path)


def test_the_sform_counts_where_the_voxel_sizes_contradict_it(volume: np.ndarray, tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume, None)
    image.set_sform(diagonal_affine(SPACING), code=1)
    image.set_qform(diagonal_affine((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), code=1)
    nib.save(image, tmp_path / "a.nii")
    assert np.array_equal(load(tmp_path / "a.nii")[1], diagonal_affine(SPACING))


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)])
def test_affines_are_in_millimeters_whatever_the_header_counts_in(
    unit: str, mm: float, volume: np.ndarray, tmp_path: Path
) -> None:
    stored = np.diag([1 / mm, 1 / mm, 1 / mm, 1.0]) @ diagonal_affine(SPACING)
    image = nib.Nifti1Image(volume, stored)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "a.nii")
    assert mm_per_unit(image.header) == mm
    assert np.allclose(load(tmp_path / "a.nii")[1], diagonal_affine(SPACING), rtol=1e-6)


def test_other_files_are_left_to_other_readers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a NIfTI, NRRD or MetaImage file"):
        ScanReader().read(tmp_path / "a.png")


def test_training_places_an_image_as_inference_does_where_sform_and_pixdim_disagree(tmp_path: Path) -> None:
    """MONAI's own reader turns such an image by 180 degrees, away from its label."""
    values = np.random.default_rng(0).integers(0, 5, (12, 12, 6)).astype(np.int16)
    affine = np.diag([-1.5, -1.5, 2.0, 1.0])
    image, label = nib.Nifti1Image(values, None), nib.Nifti1Image(values.astype(np.uint8), affine)
    image.header.set_sform(affine, code=1)
    image.header["pixdim"][1:4] = 1
    nib.save(image, tmp_path / "image.nii")
    nib.save(label, tmp_path / "label.nii")
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "train.yaml"))
    assert [parser[section]["_target_"] for section in READING] == ["LoadImaged"] * 2
    for domain in ("preprocessing", "target_preprocessing"):
        assert parser[f"train#{domain}#transforms#0"] == "@train#loading"

    for section in READING:
        load = parser.get_parsed_content(section)
        loaded = load({"image": tmp_path / "image.nii", "label": tmp_path / "label.nii"})
        assert np.array_equal(loaded["image"].affine, affine), section
        assert np.array_equal(loaded["image"][0], values)
    volume, spacing, _ = _load(str(tmp_path / "image.nii"), "RAS")
    assert spacing == [1.5, 1.5, 2.0]
    assert np.array_equal(volume, values[::-1, ::-1])


# --- other formats ---


OBLIQUE = diagonal_affine(SPACING)
OBLIQUE[:3, :3] = [[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]] @ OBLIQUE[:3, :3]


@pytest.mark.parametrize("name", ["a.nrrd", "A.NRRD", "a.nhdr", "a.mha", "a.mhd", "a.hdr", "a.img", "A.Nii.GZ"])
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.uint16, np.float32])
def test_each_format_gives_the_numbers_and_the_place_of_nifti(
    name: str, kind: type, volume: np.ndarray, tmp_path: Path
) -> None:
    values = np.abs(volume).astype(kind)
    plain = write_nifti(tmp_path / "plain.nii.gz", values, OBLIQUE)
    path = tmp_path / name
    if path.suffix in (".hdr", ".img"):
        nib.save(nib.Nifti1Pair(values, OBLIQUE), path)
    elif path.suffix == ".GZ":
        shutil.copy(plain, path)
    else:
        itk.imwrite(itk.imread(str(plain)), str(path.with_suffix(path.suffix.lower())))
        path.with_suffix(path.suffix.lower()).rename(path)

    found, affine = load(path)

    assert np.array_equal(found, values)
    assert found.dtype == (np.float32 if kind == np.float32 else np.int16)
    assert found.flags.c_contiguous
    np.testing.assert_allclose(affine, OBLIQUE, atol=1e-4)
    assert grid_distance(read_grid(path), read_grid(plain)) < 1e-4
    assert len(files_of(path)) == (2 if path.suffix in (".nhdr", ".mhd", ".hdr", ".img") else 1)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_a_file_of_itk_that_is_cut_short_is_an_error(name: str, volume: np.ndarray, tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "plain.nii.gz", volume, OBLIQUE)
    itk.imwrite(itk.imread(str(plain)), str(tmp_path / name))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short"):
        load(tmp_path / name)


@pytest.mark.parametrize("kept", ["a.mhd", "a.nhdr", "a.hdr", "a.img"])
def test_half_of_a_scan_in_two_files_is_refused(kept: str, volume: np.ndarray, tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "plain.nii.gz", volume, OBLIQUE)
    if kept in ("a.hdr", "a.img"):
        nib.save(nib.Nifti1Pair(volume, OBLIQUE), tmp_path / kept)
    else:
        itk.imwrite(itk.imread(str(plain)), str(tmp_path / kept))
    for file in tmp_path.glob("a.*"):
        if file.name != kept:
            file.unlink()
    with pytest.raises(InputError, match="copy both files"):
        load(tmp_path / kept)


def test_analyze_without_an_orientation_is_refused(volume: np.ndarray, tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(volume, np.eye(4)), tmp_path / "a.img")
    with pytest.raises(InputError, match="does not say which side is left"):
        load(tmp_path / "a.img")


@pytest.mark.parametrize("excess", [1e-7, 2.5e-7, 5e-6, 1e-3])
def test_a_quaternion_that_rounding_made_longer_than_one_is_read_as_itk_reads_it(
    excess: float, volume: np.ndarray, tmp_path: Path
) -> None:
    affine = np.diag([-1.5, -2.0, 3.0, 1.0])
    path = write_nifti(tmp_path / "a.nii", volume, affine)
    data = path.read_bytes()
    header = np.frombuffer(data[:348], nib.nifti1.header_dtype).copy()
    header["sform_code"], header["qform_code"] = 0, 1
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = 0, 0, 1 + excess
    path.write_bytes(header.tobytes() + data[348:])

    found, place = load(path)

    assert np.array_equal(found, volume)
    np.testing.assert_allclose(place[:3, :3], affine[:3, :3], atol=1e-6)
    by_itk = itk.array_from_matrix(itk.imread(str(path)).GetDirection())
    np.testing.assert_allclose(place[:3, :3] / [1.5, 2.0, 3.0], np.diag([-1, -1, 1]) @ by_itk, atol=1e-5)
    write_mask(np.zeros(volume.shape, np.uint8), path, place, tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(nib.Nifti1Image.from_filename(tmp_path / "mask.nii.gz").affine, place, atol=1e-6)


def test_a_quaternion_that_is_no_rotation_is_refused(volume: np.ndarray, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", volume, np.diag([-1.5, -2.0, 3.0, 1.0]))
    data = path.read_bytes()
    header = np.frombuffer(data[:348], nib.nifti1.header_dtype).copy()
    header["sform_code"], header["qform_code"], header["quatern_d"] = 0, 1, 2
    path.write_bytes(header.tobytes() + data[348:])
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        load(path)


def test_a_scan_that_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((32000, 32000, 2000))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(4))
    with pytest.raises(InputError, match=r"takes 7629\.\d GiB of memory, and \d+\.\d GiB are free"):
        load(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_that_begin_within_the_header_are_refused(name: str, volume: np.ndarray, tmp_path: Path) -> None:
    data = nib.Nifti1Image(volume, OBLIQUE).to_bytes()
    header = np.frombuffer(data[:348], nib.nifti1.header_dtype).copy()
    header["vox_offset"] = 0
    data = header.tobytes() + data[348:]
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(InputError, match="begin at byte 0"):
        load(tmp_path / name)


@pytest.mark.parametrize(
    "line", ["DistanceUnits = cm", "ElementToIntensityFunctionOffset = -1024", "ElementToIntensityFunctionSlope = 0.5"]
)
def test_fields_of_metaimage_that_itk_ignores_are_refused(line: str, volume: np.ndarray, tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "plain.nii.gz", volume, OBLIQUE)
    itk.imwrite(itk.imread(str(plain)), str(tmp_path / "a.mhd"))
    header = (tmp_path / "a.mhd").read_text(encoding="utf-8")
    (tmp_path / "a.mhd").write_text(header.replace("NDims", f"{line}\nNDims"), encoding="utf-8")
    with pytest.raises(InputError, match="not supported: convert it to NIfTI"):
        load(tmp_path / "a.mhd")
    neutral = line.replace("cm", "mm").replace("-1024", "0").replace("0.5", "1")
    (tmp_path / "a.mhd").write_text(header.replace("NDims", f"{neutral}\nNDims"), encoding="utf-8")
    assert np.array_equal(load(tmp_path / "a.mhd")[0], volume)
