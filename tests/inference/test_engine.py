"""ONNX Runtime in the place of PyTorch: the same masks, and a sentence where it cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import assert_refused, read_json
from conftest import run_bundle
from sifa.inference.engine import require_engine, with_engine
from sifa.io.nifti_files import load_nifti
from sifa.networks import onnx_network
from sifa.networks.batch_norm import for_inference
from sifa.networks.network_average import NetworkAverage
from sifa.networks.segmenter import Segmenter
from sifa.utils.errors import UsageError

SIZES = ((1, 32, 32), (3, 40, 24), (2, 17, 9))  # batch, height, width
LEAST_AGREEMENT = 0.9999  # share of voxels


@pytest.mark.slow
def test_onnx_runtime_computes_what_pytorch_does_also_for_the_mean_over_flips() -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = NetworkAverage([Segmenter(width=0.0625).eval()], [(), (2,)]).eval()
    runtime = with_engine(network, "onnx", 1)
    with torch.inference_mode():
        for count, height, width in SIZES:
            images = torch.rand(count, 1, height, width) * 2 - 1
            assert torch.allclose(runtime(images), network(images), atol=1e-4)
            turned = images.to(memory_format=torch.channels_last)
            assert torch.equal(runtime(turned), runtime(images))


@pytest.mark.slow
def test_masks_of_both_engines_are_equal(trained: Path, phantom: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    options: dict[str, Any] = {"model_dir": trained, "dataset_dir": phantom / "ct_images", "device": "cpu"}
    for engine in ("torch", "onnx"):
        result = run_bundle("inference", ["inference.yaml"], output_dir=tmp_path / engine, engine=engine, **options)
        assert "onnx_ir" not in result.stdout + result.stderr  # it logs every step of an export
    names = sorted(path.name for path in (tmp_path / "torch").glob("*_seg.nii.gz"))
    assert names
    for name in names:
        one, other = (np.asarray(load_nifti(tmp_path / engine / name).dataobj) for engine in ("torch", "onnx"))
        assert (one == other).mean() >= LEAST_AGREEMENT
    settings = {read_json(tmp_path / engine / "manifest.json")["cases"][0]["settings"] for engine in ("torch", "onnx")}
    assert len(settings) == 2  # masks of another engine are made again


def test_pytorch_is_the_default_and_stays_as_it_was() -> None:
    network = Segmenter(width=0.0625).eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(with_engine(network, "torch", 1)(images), for_inference(network)(images))


@pytest.mark.parametrize(
    ("engine", "device", "precision", "part"),
    [
        ("tensorrt", "cpu", "float32", "choose torch or onnx"),
        ("onnx", "meta", "float32", "--device cpu"),
        ("onnx", "cpu", "bfloat16", "--precision bfloat16"),
    ],
)
def test_an_engine_that_cannot_do_it_is_refused(engine: str, device: str, precision: str, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        require_engine(engine, device, precision)
    require_engine("torch", device, precision)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_network, "find_spec", lambda name: None if name == "onnxscript" else sys)
    with pytest.raises(UsageError, match="pip install onnxscript"):
        require_engine("onnx", "cpu", "auto")


def test_an_unknown_engine_is_refused_before_any_scan_is_read(trained: Path, phantom: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model_dir": trained, "dataset_dir": phantom / "ct_images", "output_dir": tmp_path / "o"}
    assert_refused(run_bundle("inference", ["inference.yaml"], check=False, engine="tf", **options), "--engine tf")
