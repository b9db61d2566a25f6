"""Times inference against a plain loop: CPU seconds per scan, slices per second, share of the peak performance.

    python scripts/benchmark_inference.py [--model_dir DIR] [--repeats 3] [--json FILE] [--document FILE]

The plain loop is the simplest version: MONAI's own transforms reorient, normalize and resample the whole volume,
`SliceInferer` runs the network in float32 and the formula of PAMR on one window at a time, and `Invertd` restores the
grid of the scan. It also runs with the bundle's compiled PAMR, so that the rest can be compared. There are two
generated scans: one that the body fills, and one with four times as many slices, a quarter of which show the organ. The
first pass, which finds the region, only helps if the model predicts nothing elsewhere, as the shipped one does.
`benchmark_refinement.py` times PAMR alone, `benchmark_stages.py` the way from a scan's files to its mask.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import run_command_line
from document_tables import put_table
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from monai.transforms import AsDiscreted, Compose, Invertd, LoadImage, Orientation, Orientationd
from rich.console import Console
from rich.table import Table
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.postprocessing.pamr import refine_by_formula, refine_with_pamr
from sifa.transforms.dictionary import NormalizeIntensityd, Spacingd
from sifa.transforms.orientation import ACQUIRED
from sifa.utils.errors import UsageError
from sifa.utils.files import write_json
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]

REGION_STEP = 12.0  # mm

Segment = Callable[[MetaTensor], np.ndarray]


def read_parser(model_dir: str | None) -> ConfigParser:
    """Returns the inference config on the CPU, with another model if one is given."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundle" / "configs" / "inference.yaml"))
    parser.update({"device": "cpu", **({"model_dir": model_dir} if model_dir else {})})
    return parser


def make_scans(orientation: str) -> dict[str, MetaTensor]:
    """Returns the scans to measure: `body-filling`, and `organ a quarter`, whose last slices show no organ.

    Args:
        orientation: axis codes of the fingerprint; the last axis is extended.
    """
    with tempfile.TemporaryDirectory() as folder:
        counts = ["--source_training=1", "--source_validation=0", "--target_training=1", "--target_validation=0"]
        command = [sys.executable, str(ROOT / "scripts" / "make_phantom.py"), f"{folder}/data", "--target_test=1"]
        subprocess.run([*command, *counts, "--spacing=1.2"], check=True, capture_output=True)
        read = Compose([LoadImage(ensure_channel_first=True), Orientation(orientation, labels=None)])
        heart, labels = (read(f"{folder}/data/{kind}/ct_test_000.nii.gz") for kind in ("ct_images", "ct_labels"))
    length = heart.shape[-1]
    free = heart.as_tensor()[..., int(labels.as_tensor().nonzero()[:, -1].max()) + 1 :]
    there_and_back = torch.cat([free.flip(-1), free], dim=-1)
    beyond = there_and_back.repeat(1, 1, 1, -(-3 * length // there_and_back.shape[-1]))[..., : 3 * length]
    longer = torch.cat([heart.as_tensor(), beyond], dim=-1)
    return {"body-filling": heart, "organ a quarter": MetaTensor(longer, affine=heart.affine)}


def plain_loop(fingerprint: Fingerprint, network: nn.Module, refine: Callable[..., torch.Tensor]) -> Segment:
    """Returns the plain loop that the bundle is compared with, with one of the ways to compute PAMR."""
    preprocessing = Compose(
        [
            NormalizeIntensityd("image", fingerprint.target.intensity),
            Orientationd("image", fingerprint.orientation, labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd("image", fingerprint.spacing, mode="bilinear"),
        ]
    )
    inferer = SliceInferer(2, fingerprint.slice_size, 1, 0.25, mode="gaussian", padding_mode="constant", cval=-1)
    steps = fingerprint.pamr_iterations
    back = Compose([AsDiscreted("pred", argmax=True), Invertd("pred", preprocessing, "image", nearest_interp=True)])

    def segment(scan: MetaTensor) -> np.ndarray:
        data = preprocessing({"image": scan})
        data["pred"] = inferer(data["image"][None], lambda x: refine(network(x).softmax(dim=1), x, steps))[0]
        return np.asarray(back(data)["pred"])[0]

    return segment


def bundle(inferer: SliceSegmenter, network: nn.Module) -> Segment:
    """Returns the inference of the bundle."""
    return lambda scan: inferer.segment(scan, network, "cpu").labels.numpy()


def convolution_peak() -> float:
    """Returns the multiply-accumulates per second that this machine reaches in a favorable float32 convolution."""
    layer, images = nn.Conv2d(128, 128, 3, padding=1), torch.rand(4, 128, 128, 128)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = images.to(memory_format=torch.channels_last)
    best = math.inf
    for _ in range(10):
        start = time.process_time()
        layer(images)
        best = min(best, time.process_time() - start)
    return 4 * 128 * 128 * 128 * 128 * 9 / best


def multiply_accumulates(segment: Segment, scan: MetaTensor) -> float:
    """Returns the multiply-accumulates of one scan, counted by PyTorch."""
    with FlopCounterMode(display=False) as counter:
        segment(scan)
    return counter.get_total_flops() / 2


def dice_change(mask: np.ndarray, reference: np.ndarray) -> float:
    """Returns 100 minus the smallest Dice (%) over the structures of `mask`, compared with `reference`."""
    worst = 100.0
    for value in range(1, int(reference.max()) + 1):
        one, other = mask == value, reference == value
        if other.any():
            worst = min(worst, 200 * (one & other).sum() / (one.sum() + other.sum()))
    return float(100 - worst)


def measure(
    name: str, segments: dict[str, Segment], scan: MetaTensor, repeats: int, peak: float
) -> list[dict[str, Any]]:
    """Times each way to segment a scan in alternation and returns a row for each with its best time."""
    seconds: dict[str, list[float]] = {way: [] for way in segments}
    masks: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for way, segment in segments.items():
            start = time.process_time()
            masks[way] = segment(scan)
            seconds[way].append(time.process_time() - start)
    reference, same_pamr = list(segments)[:2]
    best = {way: min(times) for way, times in seconds.items()}
    slices = scan.shape[-1]
    return [
        {
            "scan": name,
            "shape": list(scan.shape[1:]),
            "way": way,
            "seconds": round(best[way], 3),
            "times_faster": round(best[reference] / best[way], 2),
            "times_faster_same_pamr": round(best[same_pamr] / best[way], 2),
            "slices_per_second": round(slices / best[way], 1),
            "share_of_peak": round(multiply_accumulates(segment, scan) / best[way] / peak, 3),
            "dice_change": round(dice_change(masks[way], masks[reference]), 3),
        }
        for way, segment in segments.items()
    ]


def main(model_dir: str | None = None, repeats: int = 3, json: str | None = None, document: str | None = None) -> None:
    """Prints the table.

    Args:
        model_dir: folder of `model.pt` and `fingerprint.json`; the bundle's own by default.
        repeats: number of measurements of each way.
        json: file to write the rows to.
        document: a document whose table `benchmark_inference` is replaced.
    """
    parser = read_parser(model_dir)
    parser["plain_network"] = parser["network"]["network"]
    fingerprint, network = parser.get_parsed_content("fingerprint"), parser.get_parsed_content("network")
    if fingerprint.orientation == ACQUIRED:
        raise UsageError(
            f"--model_dir {model_dir}: it cuts acquired slices, which the plain loop cannot: give another one."
        )
    plain = parser.get_parsed_content("plain_network")
    parser["inferer#spatial_prior"] = None  # the plain loop does not remove components either
    inferer = parser.get_parsed_content("inferer", reset=True)
    parser["inferer#region_step"] = REGION_STEP
    with_region = parser.get_parsed_content("inferer", reset=True)
    parser["inferer#precision"] = "auto"
    in_either_precision = parser.get_parsed_content("inferer", reset=True)
    ways = {
        "plain loop": plain_loop(fingerprint, plain, refine_by_formula),
        "plain loop, compiled PAMR": plain_loop(fingerprint, plain, refine_with_pamr),
        "bundle": bundle(inferer, network),
        "`--region_step 12`": bundle(with_region, network),
        "`--region_step 12 --precision auto`": bundle(in_either_precision, network),
    }
    scans = make_scans(fingerprint.orientation)
    with torch.inference_mode():
        peak = convolution_peak()
        rows = [row for name, scan in scans.items() for row in measure(name, ways, scan, repeats, peak)]
    print_rows(rows, f"{torch.get_num_threads()} threads; convolution peak {peak / 1e9:.0f} G MAC/s")
    if json:
        write_rows(json, rows, peak)
    if document:
        put_table(Path(document), "benchmark_inference", [as_texts(row) for row in rows])


def as_texts(row: dict[str, Any]) -> dict[str, str]:
    """Returns a row as a document has it."""
    return {
        "scan": f"{row['scan']}, {' x '.join(map(str, row['shape']))}",
        "way": row["way"],
        "seconds": f"{row['seconds']:.2f}",
        "times faster": f"{row['times_faster']:.2f}",
        "times faster, compiled PAMR in both": f"{row['times_faster_same_pamr']:.2f}",
        "slices a second": f"{row['slices_per_second']:.0f}",
        "share of the peak (%)": f"{100 * row['share_of_peak']:.0f}",
        "greatest loss of Dice (points)": f"{row['dice_change']:.2f}",
    }


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """Prints a table."""
    table = Table(title=title)
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=150).print(table)


def write_rows(path: str, rows: list[dict[str, Any]], peak: float) -> None:
    """Writes the table as JSON."""
    content = {"threads": torch.get_num_threads(), "peak_gmac_per_second": round(peak / 1e9, 1), "rows": rows}
    write_json(Path(path), content)


if __name__ == "__main__":
    run_command_line(main)
