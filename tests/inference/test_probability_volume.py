"""Class probabilities of a whole scan: what is in the file, and that they need no memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import ALL_AXCODES, diagonal_affine, read_json, refusal, stored_as, write_nifti
from conftest import BUNDLE, run_bundle
from hostile import SPACING, ct
from monai.data import MetaTensor
from sifa.inference.find_scans import find_scans
from sifa.inference.probability_volume import probability_volume
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.io.nifti_files import open_nifti
from sifa.io.nifti_writer import write_mask

WINDOW = {"mode": "window", "lower": -200.0, "upper": 300.0}


def make_segmenter(**options: Any) -> SliceSegmenter:
    return SliceSegmenter("ILP", (2.5, 2.5), WINDOW, (32, 32), 3, **options)


def by_intensity(windows: torch.Tensor) -> torch.Tensor:
    """Says class 1 the more likely, the brighter a pixel; class 2 is unlikely everywhere."""
    return torch.cat([-windows, windows, torch.full_like(windows, -2.0)], dim=1)


@pytest.fixture(scope="module")
def scan() -> MetaTensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 1, 6, 5, 7, generator=generator)
    volume = torch.nn.functional.interpolate(coarse, (41, 23, 52), mode="trilinear") * 900 - 400
    volume[..., 15:, :] = -1000  # air
    return MetaTensor(volume[0], affine=torch.diag(torch.tensor([1.4, 3.0, 1.9, 1.0], dtype=torch.float64)))


def probabilities_of(scan: MetaTensor, folder: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probabilities (classes, X, Y, Z) in steps of 1/200, and the labels."""
    with probability_volume(folder, 3, scan.shape[1:]) as volume, torch.inference_mode():
        labels = make_segmenter(**options).segment(scan, by_intensity, "cpu", volume).labels.numpy()
        return np.array(volume), labels


def test_the_most_probable_class_is_the_label_and_all_sum_to_one(scan: MetaTensor, tmp_path: Path) -> None:
    volume, labels = probabilities_of(scan, tmp_path, slices_at_once=1)
    assert volume.shape == (3, *scan.shape[1:])
    assert np.abs(volume.astype(int).sum(axis=0) - 200).max() <= 1
    best = np.take_along_axis(volume, labels[None].astype(int), 0)[0]
    assert (best == volume.max(axis=0)).all()
    assert set(np.unique(labels)) == {0, 1}
    assert not volume[1:, :, 15:].any()  # air
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codes", ALL_AXCODES[::5])
def test_probabilities_do_not_depend_on_how_the_scan_is_stored(codes: str, scan: MetaTensor, tmp_path: Path) -> None:
    canonical, _ = probabilities_of(scan, tmp_path)
    stored, affine = stored_as(scan[0].numpy(), scan.affine.numpy(), codes)
    turned = MetaTensor(torch.from_numpy(stored.copy())[None], affine=torch.from_numpy(affine))
    volume, _ = probabilities_of(turned, tmp_path, slices_at_once=3)
    for found, right in zip(volume, canonical, strict=True):
        assert np.array_equal(found, stored_as(right, scan.affine.numpy(), codes)[0])


def test_what_a_coarse_first_pass_leaves_out_is_background(scan: MetaTensor, tmp_path: Path) -> None:
    values = torch.full((1, 120, 90, 110), 0.0)
    values[0, 50:70, 40:50, 45:75] = 290.0
    volume, labels = probabilities_of(MetaTensor(values, affine=scan.affine), tmp_path, region_step=18.0)
    assert labels.any()
    assert (volume[0, :20] == 200).all()
    assert (volume[0, :, :20] == 200).all()
    assert np.abs(volume.astype(int).sum(axis=0) - 200).max() <= 1


def test_a_file_has_a_volume_for_each_class_in_the_grid_of_its_scan(scan: MetaTensor, tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "a.nii.gz", scan[0].numpy(), scan.affine.numpy())
    volume, _ = probabilities_of(scan, tmp_path)
    write_mask(np.moveaxis(volume, 0, -1), image, scan.affine.numpy(), tmp_path / "out.nii.gz", slope=1 / 200)
    written = open_nifti(tmp_path / "out.nii.gz")
    assert written.shape == (*scan.shape[1:], 3)
    assert written.get_data_dtype() == np.uint8
    assert written.header["pixdim"][4] == 1
    assert np.allclose(written.get_fdata(), np.moveaxis(volume, 0, -1) / 200, atol=1e-6)
    assert np.allclose(written.affine, scan.affine.numpy())


def test_a_full_disk_is_reported_with_the_size_before_the_network_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)

    def open_volume() -> None:
        with probability_volume(tmp_path, 5, (100, 100, 100)):
            raise AssertionError("it was opened")

    message = refusal(open_volume)
    assert "need 0.01 GB" in message
    assert "leave out --probabilities" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_probabilities_wanted_later_are_made_and_are_no_scans(trained: Path, tmp_path: Path) -> None:
    scans, output = tmp_path / "scans", tmp_path / "masks"
    write_nifti(scans / "a.nii.gz", ct(), diagonal_affine(SPACING))
    given: dict[str, Any] = {"model_dir": trained, "dataset_dir": scans, "output_dir": output}
    run_bundle("inference", ["inference.yaml"], **given)
    mask = (output / "a_seg.nii.gz").read_bytes()
    run_bundle("inference", ["inference.yaml"], probabilities="True", **given)
    (case,) = read_json(output / "manifest.json")["cases"]
    assert case["probabilities"] == "a_probabilities.nii.gz"
    assert (output / "a_seg.nii.gz").read_bytes() == mask
    volumes = open_nifti(output / "a_probabilities.nii.gz")
    assert volumes.shape == (*ct().shape, 5)
    assert volumes.get_fdata().sum(axis=-1) == pytest.approx(1, abs=0.02)
    assert "already done" in run_bundle("inference", ["inference.yaml"], probabilities="True", **given).stdout
    assert [Path(item["image"]).name for item in find_scans(tmp_path, tmp_path / "elsewhere")] == ["a.nii.gz"]


PEAK = """
import re, sys, threading, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
from monai.data import MetaTensor
from sifa.inference.probability_volume import probability_volume
from sifa.inference.slice_segmenter import SliceSegmenter
segmenter = SliceSegmenter("ILP", (8.0, 8.0), {"mode": "window", "lower": -200.0, "upper": 300.0}, (32, 32), 5)
shape = (256, int(sys.argv[2]), 256)
scan = MetaTensor(torch.zeros(1, *shape))
peak, done = [0], threading.Event()
def watch():
    while not done.wait(0.01):
        peak[0] = max(peak[0], int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
def network(windows):
    return torch.zeros(len(windows), 5, *windows.shape[2:])
thread = threading.Thread(target=watch)
thread.start()
with probability_volume(Path(sys.argv[3]), 5, shape) as volume:
    segmenter.segment(scan, network, "cpu", volume)
done.set()
thread.join()
print(1024 * peak[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_memory_of_the_process_grows_by_the_scan_and_its_mask_and_not_by_the_probabilities(tmp_path: Path) -> None:
    def peak(slices: int) -> int:
        command = [sys.executable, "-c", PEAK, str(BUNDLE), str(slices), str(tmp_path)]
        return int(subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout)

    longer = 300
    growth = peak(100 + longer) - peak(100)
    assert growth < 1.3 * longer * 256 * 256 * (4 + 1)  # bytes: float32 scan, uint8 mask; five classes would be double
