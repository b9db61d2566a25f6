"""Times whole inference with ONNX Runtime in the place of PyTorch, in float32 and in INT8: seconds and equal voxels.

    OMP_NUM_THREADS=1 python scripts/benchmark_engines.py [CT.nii.gz ...] [--model_dir DIR] [--slice_size 128]
        [--pixel_spacing 2.75] [--repeats 3] [--json FILE] [--document FILE]

The network is exported as `export_bundle.py` does it. INT8 is ONNX Runtime's static quantization (QDQ, weights by
channel), calibrated on windows of the first scan. Each scan is read, segmented, measured and written as `run inference`
does it, with each engine in turn, on one thread. Seconds are CPU seconds, the shortest of each engine.
With `--slice_size` the network gets random weights: enough for its time, and nothing can be said of its masks.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_inference import dice_change, print_rows, read_parser
from command_line import run_command_line
from document_tables import put_table
from export_bundle import export_onnx, seen_windows
from monai.bundle import ConfigParser
from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sifa.inference import find_scans
from sifa.io.nifti_files import load_nifti
from sifa.networks.batch_norm import for_inference
from sifa.networks.segmenter import Segmenter
from sifa.utils.errors import InputError
from sifa.utils.files import write_json

CALIBRATION = 48  # windows

Engine = Callable[[torch.Tensor], torch.Tensor]


class Windows(CalibrationDataReader):
    """Windows of a scan, one by one.

    Args:
        windows: (N, C, H, W).
    """

    def __init__(self, windows: torch.Tensor) -> None:
        self.remaining = iter(windows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Returns the next window as the network's input; None after the last."""
        window = next(self.remaining, None)
        return None if window is None else {"image": window[None].numpy()}


def runtime(path: Path) -> Engine:
    """Returns an ONNX file as a function of slices, on one thread."""
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(slices: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(["pred"], {"image": np.ascontiguousarray(slices.numpy())})[0])

    return run


def quantize(path: Path, target: Path, windows: torch.Tensor) -> None:
    """Writes an ONNX file in INT8, calibrated on windows (N, C, H, W)."""
    logging.getLogger().setLevel(logging.ERROR)
    prepared = path.with_name("prepared.onnx")
    with contextlib.redirect_stdout(io.StringIO()):
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(str(prepared), str(target), Windows(windows), per_channel=True, **types)


def prepare(model_dir: str | None, slice_size: int | None, pixel_spacing: float) -> tuple[ConfigParser, Segmenter]:
    """Returns the inference config and its network, before it is fused."""
    parser = read_parser(model_dir)
    parser["plain_network"] = parser["network"]["network"]
    parser["inferer#spatial_prior"] = None  # random weights would give it thousands of components
    if slice_size is None:
        return parser, parser.get_parsed_content("plain_network")
    parser["inferer#slice_size"] = [slice_size, slice_size]
    parser["inferer#pixel_spacing"] = [pixel_spacing, pixel_spacing]
    torch.manual_seed(0)
    return parser, Segmenter(width=0.25).eval()


def some_windows(parser: ConfigParser, scan: torch.Tensor) -> torch.Tensor:
    """Returns some of the windows (N, C, H, W) that inference cuts a scan into."""
    windows = seen_windows(parser, scan)
    return windows[np.linspace(0, len(windows) - 1, min(CALIBRATION, len(windows))).astype(int)]


def measure(scan: Path, parser: ConfigParser, engines: dict[str, Engine], repeats: int) -> list[dict[str, Any]]:
    """Returns a row for each engine on a scan."""
    best = dict.fromkeys(engines, math.inf)
    masks = {}
    with tempfile.TemporaryDirectory() as folder:
        parser.update({"output_dir": folder, "dataset_dir": str(scan)})
        run = parser.get_parsed_content("segment_scan")
        item = find_scans(scan, folder)[0]
        for _ in range(repeats):
            for engine, network in engines.items():
                run.network = network
                start = time.process_time()
                run.segment(item, torch.device("cpu"))
                best[engine] = min(best[engine], time.process_time() - start)
                masks[engine] = np.asarray(load_nifti(item["mask"]).dataobj)
    reference = next(iter(engines))
    return [
        {
            "scan": scan.name,
            "engine": engine,
            "seconds": round(best[engine], 3),
            "times_faster": round(best[reference] / best[engine], 2),
            "equal_voxels": float((masks[engine] == masks[reference]).mean()),
            "dice_change": round(dice_change(masks[engine], masks[reference]), 2),
        }
        for engine in engines
    ]


def as_texts(row: dict[str, Any]) -> dict[str, str]:
    """Returns a row as a document has it."""
    return {
        "scan": row["scan"],
        "engine": row["engine"],
        "seconds": f"{row['seconds']:.2f}",
        "times faster": f"{row['times_faster']:.2f}",
        "equal voxels (%)": f"{int(row['equal_voxels'] * 1e6) / 1e4:.4f}",  # rounded down: 100 means all
        "greatest loss of Dice (points)": f"{row['dice_change']:.2f}",
    }


def main(
    *scans: str,
    model_dir: str | None = None,
    slice_size: int | None = None,
    pixel_spacing: float = 2.75,
    repeats: int = 3,
    json: str | None = None,
    document: str | None = None,
) -> None:
    """Prints the table.

    Args:
        scans: CT scans, NIfTI files or folders of one DICOM series.
        model_dir: folder of `model.pt` and `fingerprint.json`; the bundle's own by default.
        slice_size: rows and columns of the windows of a network with random weights, a quarter of the paper's width.
        pixel_spacing: pixel size of this network in mm.
        repeats: number of measurements of each engine.
        json: file to write the rows to.
        document: a document whose table `benchmark_engines` is replaced, or `benchmark_engines 128` for a size of 128.
    """
    missing = [scan for scan in scans if not Path(scan).exists()]
    if missing or not scans:
        raise InputError(f"{missing[0] if missing else 'there'}: give CT scans, NIfTI files or folders of one series.")
    torch.set_num_threads(1)
    parser, network = prepare(model_dir, slice_size, pixel_spacing)
    preprocessing = parser.get_parsed_content("preprocessing")
    first = preprocessing({"image": scans[0]})["image"]
    fingerprint = parser.get_parsed_content("fingerprint")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        whole, small = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        start = time.process_time()
        export_onnx(network, fingerprint, whole)
        exporting = time.process_time() - start
        quantize(whole, small, some_windows(parser, first))
        engines: dict[str, Engine] = {
            "PyTorch": for_inference(network),
            "ONNX Runtime": runtime(whole),
            "ONNX Runtime, INT8": runtime(small),
        }
        rows = [row for scan in scans for row in measure(Path(scan), parser, engines, repeats)]
    windows = slice_size or fingerprint.slice_size[0]
    print_rows(rows, f"whole inference, one thread, windows of {windows} pixels; the export took {exporting:.0f} s")
    if json:
        write_json(Path(json), {"rows": rows})
    if document:
        name = f"benchmark_engines {slice_size}" if slice_size else "benchmark_engines"
        put_table(Path(document), name, [as_texts(row) for row in rows])


if __name__ == "__main__":
    run_command_line(main)
