"""TorchScript and ONNX: what they carry, and that they say what PyTorch says at any batch and slice size."""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import read_json
from conftest import BUNDLE, ROOT, run_script
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.networks import Segmenter
from sifa.networks.weights import load_weights

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "scripts" / "export_bundle.py"
MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"ONNX export lacks {', '.join(MISSING)}")
SIZES = ((1, 64, 64), (2, 50, 70), (3, 61, 64), (1, 17, 9), (2, 8, 129), (5, 1, 1))  # batch, height, width
FEW = ("--slices=8", "--repeats=1")


def segmenter(model_dir: Path) -> torch.nn.Module:
    """Returns a model in PyTorch."""
    fingerprint = read_fingerprint(model_dir / "fingerprint.json")
    return load_weights(Segmenter(**asdict(fingerprint.network)), model_dir / "model.pt")


def export(model_dir: Path, scan: Path, output: Path, *flags: str) -> dict[str, Any]:
    """Exports a model and returns, by runtime, what was compared and timed."""
    places = (f"--model_dir={model_dir}", f"--scan={scan}", f"--output_dir={output}")
    run_script("export_bundle.py", *places, *FEW, *flags)
    return {row["runtime"]: row for row in read_json(output / "exports.json")["rows"]}


@pytest.fixture(scope="module")
def scan(phantom: Path) -> Path:
    """A generated CT."""
    return sorted((phantom / "ct_images").glob("ct_test_*.nii.gz"))[0]


@pytest.fixture(scope="module")
def exported(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shipped model's exports: TorchScript, and ONNX where it can be made."""
    output = tmp_path_factory.mktemp("exports")
    export(BUNDLE / "models", scan, output, *(["--torchscript_only"] if MISSING else []))
    return output


@pytest.mark.parametrize("size", SIZES)
def test_torchscript_says_what_pytorch_says_at_any_size(size: tuple[int, int, int], exported: Path) -> None:
    images = torch.rand(size[0], 1, *size[1:]) * 2 - 1
    with torch.inference_mode():
        expected, found = segmenter(BUNDLE / "models")(images), torch.jit.load(exported / "model.ts")(images)
    assert found.shape == expected.shape
    assert torch.allclose(found.softmax(dim=1), expected.softmax(dim=1), atol=1e-5)


@needs_onnx
@pytest.mark.parametrize("size", SIZES)
def test_onnx_says_what_pytorch_says_at_any_size(size: tuple[int, int, int], exported: Path) -> None:
    import onnxruntime

    images = torch.rand(size[0], 1, *size[1:]) * 2 - 1
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = segmenter(BUNDLE / "models")(images)
    found = torch.from_numpy(session.run(["pred"], {"image": images.numpy()})[0])
    assert found.shape == expected.shape
    assert torch.allclose(found.softmax(dim=1), expected.softmax(dim=1), atol=1e-5)


@needs_onnx
def test_onnx_names_its_axes_and_carries_the_fingerprint(exported: Path) -> None:
    import onnx

    model = onnx.load(exported / "model.onnx")
    axes = [
        [axis.dim_param or axis.dim_value for axis in place.type.tensor_type.shape.dim]
        for place in (*model.graph.input, *model.graph.output)
    ]
    assert axes == [["batch", 1, "height", "width"], ["batch", 5, "height", "width"]]
    properties = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    fingerprint = read_fingerprint(BUNDLE / "models" / "fingerprint.json").to_json()
    assert properties == {"fingerprint": fingerprint, "labels": fingerprint["labels"]}


def test_torchscript_carries_metadata_and_the_inference_config_under_its_own_name(exported: Path) -> None:
    archive = zipfile.ZipFile(exported / "model.ts")
    metadata, config = (json.loads(archive.read(f"model/extra/{name}.json")) for name in ("metadata", "inference"))
    fingerprint = read_fingerprint(BUNDLE / "models" / "fingerprint.json").to_json()
    assert metadata["version"] == read_json(BUNDLE / "configs" / "metadata.json")["version"]
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == fingerprint["labels"]
    assert json.loads(config["fingerprint"]["text"]) == fingerprint
    assert {"preprocessing", "inferer", "postprocessing", "device"} <= set(config)


def test_every_float32_runtime_agrees_and_the_tables_say_so(exported: Path) -> None:
    result = read_json(exported / "exports.json")
    rows = [row for row in result["rows"] if "bfloat16" not in row["runtime"]]
    assert {"eager", "eager, folded, channels last", "TorchScript"} <= {row["runtime"] for row in rows}
    assert all(row["least_agreement"] >= 0.9999 and row["greatest_difference"] < 1e-4 for row in rows)
    assert all(row["ms_per_slice_median"] >= row["ms_per_slice"] > 0 for row in result["rows"])
    assert any(int(side) % 8 for size in result["sizes"] for side in size.split(" x "))
    table = (exported / "exports.md").read_text(encoding="utf-8")
    assert all(f"| {row['runtime']} |" in table for row in result["rows"])


def test_nothing_else_is_left_in_the_output_folder(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} - {"model.onnx"} == {"exports.json", "exports.md", "model.ts"}


@needs_onnx
def test_exports_agree_on_slices_of_a_real_scan(shared: Path, tmp_path: Path) -> None:
    scan = sorted((shared / "abdomen" / "ct_val_images").glob("*.nii.gz"))[0]
    rows = export(BUNDLE / "models", scan, tmp_path)
    for runtime in ("TorchScript", "onnxruntime"):
        assert rows[runtime]["least_agreement"] >= 0.9999
        assert rows[runtime]["greatest_difference"] < 1e-4


def test_a_runtime_that_says_something_else_is_seen() -> None:
    compare = runpy.run_path(str(SCRIPT))["compare"]
    logits = torch.randn(9, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    moved = logits.roll(1, dims=1)

    def runtime(slices: torch.Tensor) -> torch.Tensor:
        return slices[:, :5]

    def other(slices: torch.Tensor) -> torch.Tensor:
        return slices[:, 5:]

    both = torch.cat([logits, moved], dim=1)
    assert compare(runtime, runtime, both) == {"difference": 0.0, "agreement": 1.0}
    found = compare(runtime, other, both)
    same = (logits.argmax(dim=1) == moved.argmax(dim=1)).float().mean()
    assert found["agreement"] == pytest.approx(float(same))
    assert found["difference"] == pytest.approx(float((logits.softmax(1) - moved.softmax(1)).abs().max()))


def test_sizes_that_are_no_multiples_of_8_are_compared() -> None:
    as_sizes = runpy.run_path(str(SCRIPT))["as_sizes"]
    windows = torch.from_numpy(np.arange(7 * 64 * 32, dtype=np.float32).reshape(7, 1, 64, 32))
    sizes = {name: tuple(slices.shape[2:]) for name, slices in as_sizes(windows).items()}
    assert sizes == {"64 x 32": (64, 32), "61 x 27": (61, 27), "63 x 32": (63, 32), "64 x 63": (64, 63)}


def test_without_onnx_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    hide = "import os, runpy, sys; sys.modules['onnx'] = None; sys.argv = sys.argv[1:]"
    beside = "sys.path.insert(0, os.path.dirname(sys.argv[0]))"  # as for a script that is run
    code = f"{hide}; {beside}; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(SCRIPT), f"--output_dir={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 1
    assert "error: ONNX needs pip install onnx" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    flags = (f"--model_dir={tmp_path / 'nothing'}", f"--output_dir={tmp_path}", "--torchscript_only")
    result = run_script("export_bundle.py", *flags, check=False)
    assert result.returncode == 1
    assert "error:" in result.stderr
    assert "Traceback" not in result.stderr
