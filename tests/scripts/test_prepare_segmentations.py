"""DICOM SEG on the grid of its scan: read back as written, in any storage order, and refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from builders import Array, edit_dicom, refusal, stored_as
from layouts import SHAPE, label, write_patient
from preparation.label_files import names_in, read_named_label
from preparation.segmentations import segment_masks, segment_names
from sifa.io.dicom_seg import write_dicom_seg
from sifa.io.grids import Grid, read_grid

pytest.importorskip("highdicom", reason="highdicom writes the DICOM SEG of these tests")

NAMES = {1: "Left ventricle", 2: "Aorta"}
CLASSES = {"left ventricle": 1, "aorta": 2}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patient(tmp_path_factory.mktemp("series") / "ct_1", "ct_1")


@pytest.fixture(scope="module")
def mask() -> Array:
    return label("ct_1")


@pytest.fixture
def path(series: Path, mask: Array, tmp_path: Path) -> Path:
    """A DICOM SEG of the series."""
    affine = read_grid(series).affine
    write_dicom_seg(mask, affine, sorted(series.iterdir()), NAMES, tmp_path / "seg.dcm", "model", "1")
    return tmp_path / "seg.dcm"


def test_a_mask_is_read_back_as_it_was_written(path: Path, series: Path, mask: Array) -> None:
    grid = read_grid(series)

    found = read_named_label(path, grid, CLASSES)

    assert names_in(path) == segment_names(path) == list(NAMES.values())
    assert np.array_equal(found.voxels, mask)
    assert not found.is_file


@pytest.mark.parametrize("axcodes", ["LPI", "RAS", "SAL", "IRP"])
def test_slices_in_either_order_and_axes_in_any_order_show_the_same(
    axcodes: str, path: Path, series: Path, mask: Array
) -> None:
    turned, affine = stored_as(mask, read_grid(series).affine, axcodes)

    found = read_named_label(path, Grid(turned.shape, affine), CLASSES)

    assert np.array_equal(found.voxels, turned)


def test_structures_of_class_0_are_left_out(path: Path, series: Path, mask: Array) -> None:
    found = read_named_label(path, read_grid(series), {"left ventricle": 0, "aorta": 1})

    assert np.array_equal(found.voxels, mask == 2)


def test_segments_of_one_name_are_one_structure(path: Path, series: Path, mask: Array) -> None:
    edit_dicom([path], lambda dicom, _: setattr(dicom.SegmentSequence[1], "SegmentLabel", "left Ventricle"))

    found = segment_masks(path, read_grid(series), ["left ventricle"])

    assert np.array_equal(found["left ventricle"], mask > 0)


def test_overlapping_classes_are_refused_by_name(path: Path, series: Path) -> None:
    def overlap(dicom: pydicom.Dataset, _: int) -> None:
        for frame in dicom.PerFrameFunctionalGroupsSequence:
            frame.PlanePositionSequence = dicom.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
        dicom.PixelData = bytes([255]) * len(dicom.PixelData)

    edit_dicom([path], overlap)

    message = refusal(lambda: read_named_label(path, read_grid(series), CLASSES))

    assert message.startswith(f"{path}: ")
    assert "aorta and left ventricle overlap" in message


def test_another_grid_and_a_part_beyond_the_scan_are_refused(path: Path, series: Path) -> None:
    grid = read_grid(series)
    moved = grid.affine.copy()
    moved[0, 3] += 0.4
    shorter = (SHAPE[0], SHAPE[1], 3)

    away = refusal(lambda: read_named_label(path, Grid(grid.shape, moved), CLASSES))
    beyond = refusal(lambda: read_named_label(path, Grid(shorter, grid.affine), CLASSES))

    assert "voxels away" in away
    assert "beyond its borders" in beyond
    assert all(message.startswith(f"{path}: ") for message in (away, beyond))


def test_fractions_and_other_files_are_refused(path: Path, series: Path, tmp_path: Path) -> None:
    def as_fractions(dicom: pydicom.Dataset, _: int) -> None:
        pixels = dicom.pixel_array
        dicom.SegmentationType, dicom.MaximumFractionalValue = "FRACTIONAL", 255
        dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = 8, 8, 7
        dicom.PixelData = (pixels * 100).astype(np.uint8).tobytes()

    edit_dicom([path], as_fractions)
    (tmp_path / "other.dcm").write_bytes(b"not DICOM")

    assert "it holds fractions" in refusal(lambda: read_named_label(path, read_grid(series), CLASSES))
    assert str(tmp_path / "other.dcm") in refusal(lambda: segment_names(tmp_path / "other.dcm"))
