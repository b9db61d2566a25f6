"""Inference in-process, from the real config: the mask lies where the anatomy is, however a scan is stored."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from builders import ALL_AXCODES, write_dicom_series
from conftest import BUNDLE
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from sifa.io.nifti_files import load_nifti
from sifa.transforms.slices import slice_steps


def segment(parser: ConfigParser, scan: Path, output: Path) -> nib.Nifti1Pair:
    """Runs the config's own steps on one scan and returns the mask it wrote."""
    mask = output / f"{scan.name.removesuffix('.nii.gz')}_seg.nii.gz"
    run = parser.get_parsed_content("segment_scan")
    with torch.inference_mode():
        run.segment({"image": str(scan), "mask": str(mask)}, torch.device("cpu"))
    return load_nifti(mask)


def parser_with(**changes: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.yaml"))
    parser.update({"device": "cpu", "dataset_dir": "unused", "output_dir": "unused", **changes})
    return parser


@pytest.fixture(scope="module")
def parser() -> ConfigParser:
    return parser_with()


@pytest.fixture(scope="module")
def scan(phantom: Path) -> nib.Nifti1Pair:
    """A generated CT, turned to RAS without an oblique rotation, so that turning it again needs no interpolation."""
    image = nib.as_closest_canonical(load_nifti(phantom / "ct_images" / "ct_test_000.nii.gz"))
    assert isinstance(image, nib.Nifti1Image)
    affine = np.diag([*nib.affines.voxel_sizes(image.affine), 1.0])
    affine[:3, 3] = [-70.0, -40.0, 15.0]
    return nib.Nifti1Image(np.asarray(image.dataobj), affine)


def turned(image: nib.Nifti1Image, codes: str) -> nib.Nifti1Pair:
    """Returns the same scan with its axes stored as `codes`."""
    start = nib.io_orientation(image.affine)
    return image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(tuple(codes))))


@pytest.mark.slow
def test_the_mask_is_the_same_over_all_48_axis_orders_and_flips(
    parser: ConfigParser, scan: nib.Nifti1Image, tmp_path: Path
) -> None:
    nib.save(scan, tmp_path / "canonical.nii.gz")
    canonical = np.asarray(segment(parser, tmp_path / "canonical.nii.gz", tmp_path).dataobj)
    assert len(np.unique(canonical)) > 2
    assert len(ALL_AXCODES) == 48
    for codes in ALL_AXCODES:
        image = turned(scan, codes)
        nib.save(image, tmp_path / f"{codes}.nii.gz")
        mask = segment(parser, tmp_path / f"{codes}.nii.gz", tmp_path)
        assert mask.shape == image.shape
        assert np.array_equal(mask.affine, load_nifti(tmp_path / f"{codes}.nii.gz").affine), codes
        assert np.array_equal(np.asarray(nib.as_closest_canonical(mask).dataobj), canonical), codes


def test_an_oblique_scan_gets_its_mask_in_its_own_grid(
    parser: ConfigParser, scan: nib.Nifti1Image, tmp_path: Path
) -> None:
    nib.save(scan, tmp_path / "straight.nii.gz")
    straight = np.asarray(segment(parser, tmp_path / "straight.nii.gz", tmp_path).dataobj)
    angle = np.deg2rad(8.0)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    # The patient lies rotated under the same grid: the voxels are those of the straight scan, so must the mask be.
    nib.save(nib.Nifti1Image(np.asarray(scan.dataobj), rotation @ scan.affine), tmp_path / "oblique.nii.gz")
    mask = segment(parser, tmp_path / "oblique.nii.gz", tmp_path)
    assert np.array_equal(mask.affine, load_nifti(tmp_path / "oblique.nii.gz").affine)
    assert np.array_equal(np.asarray(mask.dataobj), straight)


def test_a_dicom_series_gets_the_mask_of_the_same_scan_as_nifti(
    parser: ConfigParser, scan: nib.Nifti1Image, tmp_path: Path
) -> None:
    volume = np.asarray(turned(scan, "LPS").dataobj).astype(np.int16)
    spacing = nib.affines.voxel_sizes(turned(scan, "LPS").affine)
    write_dicom_series(tmp_path / "series", volume, [float(step) for step in spacing])
    from_dicom = segment(parser, tmp_path / "series", tmp_path)
    nib.save(nib.Nifti1Image(volume, from_dicom.affine), tmp_path / "same.nii.gz")
    from_nifti = segment(parser, tmp_path / "same.nii.gz", tmp_path)
    one, other = np.asarray(from_dicom.dataobj), np.asarray(nib.as_closest_canonical(from_nifti).dataobj)
    assert np.array_equal(np.asarray(nib.as_closest_canonical(from_dicom).dataobj), other)
    assert one.max() > 0


def tones(windows: torch.Tensor) -> torch.Tensor:
    """Says of each pixel which of five intensities it is nearest to; knows nothing of its neighbors."""
    return -50 * (windows - torch.linspace(-1, 1, 5)[:, None, None]).square()


def test_a_scan_much_larger_than_a_window_is_segmented_whole(
    parser: ConfigParser, scan: nib.Nifti1Image, tmp_path: Path
) -> None:
    data = np.pad(np.asarray(scan.dataobj), ((40, 50), (0, 0), (30, 60)), constant_values=-1000)
    shift = np.eye(4)
    shift[:3, 3] = -np.array([40, 0, 30])
    large = nib.Nifti1Image(data, scan.affine @ shift)
    nib.save(large, tmp_path / "large.nii.gz")
    assert segment(parser, tmp_path / "large.nii.gz", tmp_path).shape == data.shape

    spacing = slice_steps(scan.affine, parser.get_parsed_content("fingerprint").orientation)[:2].tolist()
    pixel_by_pixel = {"inferer#pixel_spacing": spacing, "inferer#pamr_iterations": 0, "inferer#spatial_prior": None}
    inferer = parser_with(**pixel_by_pixel).get_parsed_content("inferer")
    whole, alone = (
        inferer.segment(MetaTensor(image.get_fdata()[None], affine=image.affine), tones, "cpu").labels.numpy()
        for image in (large, scan)
    )
    heart = whole[40 : 40 + scan.shape[0], :, 30 : 30 + scan.shape[2]]
    assert len(np.unique(heart)) == 5
    assert np.array_equal(heart, alone)
    assert np.count_nonzero(whole) == np.count_nonzero(heart)


@pytest.mark.slow
def test_real_scans_get_masks_in_their_own_grids(parser: ConfigParser, shared: Path, tmp_path: Path) -> None:
    scans = [*sorted((shared / "scans").glob("*.nii.gz")), shared / "scans" / "dicom_ct"]
    assert len(scans) == 4
    for scan in scans:
        mask = segment(parser, scan, tmp_path)
        if scan.is_dir():
            assert sorted(mask.shape) == [20, 512, 512]
            assert np.allclose(sorted(nib.affines.voxel_sizes(mask.affine)), [0.977, 0.977, 2.0], atol=1e-3)
        else:
            image = load_nifti(scan)
            assert mask.shape == image.shape
            assert np.array_equal(mask.affine, image.affine)
