"""Masks as files: the voxels in the order of NIfTI, whatever order they have in memory."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sifa.io.nifti_writer import write_mask


@pytest.mark.parametrize("order", ["C", "F", "reversed", "permuted"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize("shape", [(7, 5, 3), (33, 9, 130), (1, 1, 1), (17, 4, 65, 3)])
def test_a_file_holds_what_nibabel_writes(
    shape: tuple[int, ...], dtype: type[np.generic], order: str, tmp_path: Path
) -> None:
    labels = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    stored = {
        "C": labels,
        "F": np.asfortranarray(labels),
        "reversed": labels[::-1, :, ::-1].copy()[::-1, :, ::-1],
        "permuted": labels.swapaxes(0, 2).copy().swapaxes(0, 2),
    }[order]
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    expected = nib.Nifti1Image(labels, affine)
    expected.header.set_xyzt_units("mm")
    expected.set_qform(affine, code=1)
    expected.set_sform(affine, code=1)
    expected.to_filename(tmp_path / "expected.nii")
    for name in ("mask.nii", "mask.nii.gz"):
        write_mask(stored, None, affine, tmp_path / name)
    assert (tmp_path / "mask.nii").read_bytes() == (tmp_path / "expected.nii").read_bytes()
    with gzip.open(tmp_path / "mask.nii.gz") as stream:
        assert stream.read() == (tmp_path / "expected.nii").read_bytes()


def test_a_map_is_multiplied_by_its_slope(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_mask(values, None, np.eye(4), tmp_path / "map.nii.gz", slope=1 / 200)
    assert np.allclose(nib.Nifti1Image.from_filename(tmp_path / "map.nii.gz").get_fdata(), values / 200)
