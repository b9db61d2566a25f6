"""Exports the segmenter as TorchScript and ONNX, compares both with PyTorch on slices of a scan, and times them.

    python scripts/export_bundle.py [--model_dir DIR] [--output_dir dist] [--scan FILE] [--torchscript_only]

Writes

    model.ts      TorchScript by MONAI's `ckpt_export`, with metadata and the inference config, fingerprint included
    model.onnx    any batch and slice size; its metadata properties hold fingerprint and labels
    exports.json  results of the comparison and the timing
    exports.md    the same as a table

Both files hold only the network: from slices in [-1, 1] at the fingerprint's pixel size to logits. The exit status is 1
when the output of an export differs from PyTorch's. ONNX needs `pip install onnx onnxscript onnxruntime`. OpenVINO is
timed if it is installed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import run_command_line
from model_metadata import metadata_of
from monai.bundle import ConfigParser, ckpt_export
from rich.console import Console
from rich.table import Table
from sifa.fingerprint.fingerprint import Fingerprint, read_fingerprint
from sifa.networks import Segmenter
from sifa.networks.batch_norm import for_inference
from sifa.networks.onnx_network import PACKAGES, to_onnx
from sifa.networks.weights import load_weights
from sifa.utils.errors import InputError
from sifa.utils.files import write_text
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundle"
CONFIGS = BUNDLE / "configs"

SCAN = ROOT.parent / "shared" / "data" / "scans" / "cardiac_ct_1p5mm.nii.gz"  # may lie beside the checkout
LEAST_AGREEMENT = 0.9999  # share of pixels with the same class
BATCH = 8  # slices per pass, as in inference
REFERENCE = "eager"
MASK_DTYPE = "uint8"  # of the masks that MONAI Deploy's operator writes
LOW = ", bfloat16"  # suffix of the names of runtimes that compute in bfloat16

Runtime = Callable[[torch.Tensor], torch.Tensor]

console = Console(width=None if sys.stdout.isatty() else 150)


def inference_config(fingerprint: Fingerprint) -> dict[str, Any]:
    """Returns the inference config with the fingerprint embedded, so that it needs no other file.

    The fingerprint is embedded as JSON text, since MONAI's parser interprets some strings as references or code. "#",
    which the parser replaces, is written as its escape.
    """
    config = ConfigParser.load_config_file(str(CONFIGS / "inference.yaml"))
    text = json.dumps(fingerprint.to_json()).replace("#", "\\u0023")
    return {**config, "fingerprint": {"_target_": "sifa.fingerprint.parse_fingerprint", "text": text}}


def export_torchscript(model_dir: Path, fingerprint: Fingerprint, path: Path) -> None:
    """Writes TorchScript by MONAI's `ckpt_export`.

    MONAI Deploy looks for `<name of the file>/extra/metadata.json` in the archive, so the file is written under its
    final name in a temporary folder and then moved.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        written = {name: Path(folder) / f"{name}.json" for name in ("metadata", "inference")}
        written["metadata"].write_text(json.dumps(metadata_of(fingerprint)), encoding="utf-8")
        written["inference"].write_text(json.dumps(inference_config(fingerprint)), encoding="utf-8")
        logging.getLogger("monai.bundle.scripts").setLevel(logging.WARNING)
        ckpt_export(
            net_id="network_def",
            filepath=str(Path(folder) / path.name),
            ckpt_file=str(model_dir / "model.pt"),
            meta_file=str(written["metadata"]),
            config_file=str(written["inference"]),
        )
        os.replace(Path(folder) / path.name, path)


def export_onnx(network: nn.Module, fingerprint: Fingerprint, path: Path) -> None:
    """Writes ONNX for any batch, height and width; see `sifa.networks.onnx_network.to_onnx`."""
    import onnx

    model, content = to_onnx(network, fingerprint.network.in_channels), fingerprint.to_json()
    onnx.helper.set_model_props(model, {"fingerprint": json.dumps(content), "labels": json.dumps(content["labels"])})
    onnx.checker.check_model(model, full_check=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        onnx.save(model, Path(folder) / path.name)
        os.replace(Path(folder) / path.name, path)


def torch_runtimes(eager: nn.Module, torchscript: Path) -> dict[str, Runtime]:
    """Returns the ways to run the network in PyTorch."""
    folded = for_inference(eager)
    scripted = torch.jit.load(torchscript).eval()

    def bfloat16(slices: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return folded(slices).float()

    return {
        REFERENCE: eager,
        "eager, folded, channels last": folded,
        f"eager, folded, channels last{LOW}": bfloat16,
        "TorchScript": scripted,
    }


def onnx_runtimes(path: Path) -> dict[str, Runtime]:
    """Returns the ways to run the ONNX file, each on one thread and, unless its name has a precision, in float32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    runtimes: dict[str, Runtime] = {
        "onnxruntime": lambda slices: torch.from_numpy(session.run(["pred"], {"image": slices.numpy()})[0])
    }
    if importlib.util.find_spec("openvino") is not None:
        runtimes |= {"OpenVINO": openvino_runtime(path, "f32"), f"OpenVINO{LOW}": openvino_runtime(path, "bf16")}
    return runtimes


def openvino_runtime(path: Path, precision: str) -> Runtime:
    """Returns a function that runs the ONNX file in OpenVINO, in `f32` or `bf16`."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda slices: torch.from_numpy(compiled([slices.numpy()])[0])


def read_windows(model_dir: Path, scan: Path | None) -> torch.Tensor:
    """Returns the windows (N, C, H, W) that the network receives when inference segments a scan.

    Args:
        model_dir: folder of the fingerprint.
        scan: a CT; None: a generated one.
    """
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "inference.yaml"))
    parser.update({"device": "cpu", "model_dir": str(model_dir)})
    with tempfile.TemporaryDirectory() as folder:
        if scan is None:
            counts = ["--source_training=1", "--source_validation=0", "--target_training=1", "--target_validation=0"]
            command = [sys.executable, str(ROOT / "scripts" / "make_phantom.py"), f"{folder}/data", "--target_test=1"]
            subprocess.run([*command, *counts], check=True, capture_output=True)
            scan = Path(folder) / "data" / "ct_images" / "ct_test_000.nii.gz"
        volume = parser.get_parsed_content("preprocessing")({"image": str(scan)})["image"]
    return seen_windows(parser, volume)


def seen_windows(parser: ConfigParser, volume: torch.Tensor) -> torch.Tensor:
    """Returns the windows (N, C, H, W) that inference by a config cuts a volume (C, X, Y, Z) into."""
    classes = parser.get_parsed_content("fingerprint").network.out_channels
    seen: list[torch.Tensor] = []

    def spy(windows: torch.Tensor) -> torch.Tensor:
        seen.append(windows.as_subclass(torch.Tensor))
        return windows.new_zeros((len(windows), classes, *windows.shape[2:]))

    parser.get_parsed_content("inferer").segment(volume, spy, "cpu")
    return torch.cat(seen)


def as_sizes(windows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns the windows (N, C, H, W) unchanged and in three other sizes that are not multiples of 8."""
    height, width = windows.shape[-2:]
    pairs = torch.cat([windows[0:-1:2], windows[1::2]], dim=-1)
    variants = [windows, windows[:, :, : height - 3, : width - 5], windows[:, :, 1:], pairs[:, :, :, :-1]]
    return {f"{variant.shape[-2]} x {variant.shape[-1]}": variant for variant in variants}


def compare(runtime: Runtime, reference: Runtime, slices: torch.Tensor) -> dict[str, float]:
    """Returns the largest difference of a probability, and the share of pixels with the same class."""
    greatest, same = 0.0, 0
    for part in slices.split(_batches(len(slices))):
        one, other = (run(part.contiguous()).softmax(dim=1) for run in (runtime, reference))
        greatest = max(greatest, float((one - other).abs().max()))
        same += int((one.argmax(dim=1) == other.argmax(dim=1)).sum())
    return {"difference": greatest, "agreement": same / slices[:, 0].numel()}


def _batches(count: int) -> list[int]:
    """Returns different batch sizes that sum to `count`: 1, 2, ... up to the size in inference, then again from 1."""
    sizes: list[int] = []
    while sum(sizes) < count:
        sizes.append(min(len(sizes) % BATCH + 1, count - sum(sizes)))
    return sizes


def measure(runtimes: Mapping[str, Runtime], slices: torch.Tensor, repeats: int) -> dict[str, list[float]]:
    """Returns the seconds of `repeats` passes of each runtime, in alternation, after three passes to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for repeat in range(-3, repeats):
        for name, run in runtimes.items():
            start = time.perf_counter()
            run(slices)
            if repeat >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def summarize(
    runtimes: Mapping[str, Runtime], variants: Mapping[str, torch.Tensor], seconds: Mapping[str, list[float]]
) -> list[dict[str, Any]]:
    """Returns a row for each runtime: ms per slice, speed-up over the best eager one of its precision, difference."""
    best = {name: min(times) / BATCH * 1000 for name, times in seconds.items()}
    eager: dict[bool, float] = {}
    for name, value in best.items():
        if name.startswith(REFERENCE):
            eager[name.endswith(LOW)] = min(value, eager.get(name.endswith(LOW), value))
    rows = []
    for name, run in runtimes.items():
        compared = [compare(run, runtimes[REFERENCE], slices) for slices in variants.values()]
        rows.append(
            {
                "runtime": name,
                "ms_per_slice": round(best[name], 3),
                "ms_per_slice_median": round(float(np.median(seconds[name])) / BATCH * 1000, 3),
                "times_best_eager": round(eager[name.endswith(LOW)] / best[name], 2),
                "greatest_difference": max(entry["difference"] for entry in compared),
                "least_agreement": min(entry["agreement"] for entry in compared),
            }
        )
    return rows


HEADINGS = {
    "runtime": "runtime",
    "ms_per_slice": "ms a slice, best",
    "ms_per_slice_median": "median",
    "times_best_eager": "x best eager of this precision",
    "greatest_difference": "softmax, max difference",
    "least_agreement": "same class (%)",
}


def texts(row: Mapping[str, Any]) -> list[str]:
    """Returns the cells of a row as text."""
    shown = {**row, "greatest_difference": f"{row['greatest_difference']:.1e}"}
    shown["least_agreement"] = f"{int(row['least_agreement'] * 1e6) / 1e4:.4f}"  # rounded down: 100 means all
    return [str(shown[name]) for name in HEADINGS]


def as_markdown(result: Mapping[str, Any]) -> str:
    """Returns the result as text and a Markdown table."""
    lines = [
        f"Network of width {result['width']}, {result['slices']} slices of {result['scan']} in the sizes "
        f"{', '.join(result['sizes'])}; timed: batches of {BATCH} slices of {result['sizes'][0]}, one thread, best and "
        f"median of {result['repeats']} interleaved passes. {', '.join(result['versions'])}.",
        "",
        f"| {' | '.join(HEADINGS.values())} |",
        f"|---{'|---:' * (len(HEADINGS) - 1)}|",
        *(f"| {' | '.join(texts(row))} |" for row in result["rows"]),
    ]
    return "\n".join(lines) + "\n"


def versions() -> list[str]:
    """Returns names and versions of Python and the libraries involved."""
    found = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


def main(
    model_dir: str | None = None,
    output_dir: str = "dist",
    scan: str | None = None,
    slices: int = 96,
    repeats: int = 20,
    torchscript_only: bool = False,
) -> None:
    """Exports, compares and times.

    Args:
        model_dir: folder of `model.pt` and `fingerprint.json`; the bundle's own by default.
        output_dir: folder to write to.
        scan: a CT to take slices from; by default a heart in `../shared/data` if it exists, else a generated one.
        slices: maximum number of slices of the scan to compare.
        repeats: number of passes to time.
        torchscript_only: whether to skip ONNX.
    """
    needed = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if needed and not torchscript_only:
        sys.exit(f"error: ONNX needs pip install {' '.join(needed)}; --torchscript_only leaves it out.")
    torch.set_num_threads(1)
    model, output = Path(model_dir or BUNDLE / "models").absolute(), Path(output_dir).absolute()
    found = Path(scan) if scan else SCAN if SCAN.is_file() else None
    if found is not None and not found.exists():
        sys.exit(f"error: {found} does not exist: give a CT as --scan FILE.")
    try:
        fingerprint = read_fingerprint(model / "fingerprint.json")
        eager = load_weights(Segmenter(**asdict(fingerprint.network)), model / "model.pt")
    except InputError as error:
        sys.exit(f"error: {error}")
    if fingerprint.mask_dtype != MASK_DTYPE:
        fingerprint = replace(fingerprint, label_values={})
        print("note: masks of model.ts hold classes, 1, 2, ...: values of labels exceed 255, MONAI Deploy writes uint8")
    output.mkdir(parents=True, exist_ok=True)
    export_torchscript(model, fingerprint, output / "model.ts")
    runtimes = torch_runtimes(eager, output / "model.ts")
    if not torchscript_only:
        export_onnx(eager, fingerprint, output / "model.onnx")
        runtimes |= onnx_runtimes(output / "model.onnx")
    windows = read_windows(model, found)
    if len(windows) < BATCH:
        sys.exit(f"error: {found} shows {len(windows)} slices, {BATCH} are needed: give another --scan.")
    windows = windows[np.linspace(0, len(windows) - 1, min(len(windows), max(slices, BATCH))).astype(int)]
    variants = as_sizes(windows)
    batch = windows[np.linspace(0, len(windows) - 1, BATCH).astype(int)]
    with torch.inference_mode():
        rows = summarize(runtimes, variants, measure(runtimes, batch, repeats))
    result = {
        "model": fingerprint.name,
        "width": fingerprint.network.width,
        "scan": found.name if found else "a generated scan",
        "slices": len(windows),
        "sizes": list(variants),
        "repeats": repeats,
        "versions": versions(),
        "rows": rows,
    }
    write_text(output / "exports.json", json.dumps(result, indent=2) + "\n")
    write_text(output / "exports.md", as_markdown(result))
    show(result)
    exact = [row for row in rows if not row["runtime"].endswith(LOW)]
    wrong = [row["runtime"] for row in exact if row["least_agreement"] < LEAST_AGREEMENT]
    if wrong:
        sys.exit(f"error: {', '.join(wrong)}: less than {LEAST_AGREEMENT:.2%} of the pixels have PyTorch's class.")


def show(result: Mapping[str, Any]) -> None:
    """Prints the table."""
    table = Table(title=f"{result['slices']} slices of {result['scan']}; one thread")
    for heading in HEADINGS.values():
        table.add_column(heading, justify="left" if heading == "runtime" else "right")
    for row in result["rows"]:
        table.add_row(*texts(row))
    console.print(table)


if __name__ == "__main__":
    run_command_line(main)
