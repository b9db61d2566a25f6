"""Times PAMR beside the network that it refines: milliseconds of the network, of the formula and of the compiled code.

    python scripts/benchmark_refinement.py [CT.nii.gz ...] [--model_dir DIR] [--repeats 7] [--json FILE]
        [--document FILE]

Random windows of three sizes are given to untrained networks, a quarter as wide as the paper's and as wide. Each scan
is segmented by a trained model, and the time of each way is summed over the windows that inference cuts it into.
Network, formula and code take turns on the same windows, and the shortest CPU time of each counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmark_inference import print_rows, read_parser
from command_line import run_command_line
from document_tables import put_table
from monai.data import MetaTensor
from sifa.networks.batch_norm import for_inference
from sifa.networks.segmenter import Segmenter
from sifa.postprocessing.pamr import refine_by_formula, refine_with_pamr
from sifa.utils.errors import InputError
from sifa.utils.files import write_json

SIZES = ((64, 8, 0.25), (128, 8, 0.25), (256, 1, 1.0))  # pixels, windows at once, width of the network

Network = Callable[[torch.Tensor], torch.Tensor]


def time_turns(images: torch.Tensor, network: Network, iterations: int, repeats: int) -> tuple[list[float], float]:
    """Returns the shortest times of network, formula and code in seconds, and the largest difference of the results."""
    best = [math.inf] * 3
    for _ in range(repeats):
        start = time.process_time()
        logits = network(images)
        times = [time.process_time() - start]
        probabilities = logits.float().softmax(dim=1)
        results = []
        for refine in (refine_by_formula, refine_with_pamr):
            start = time.process_time()
            results.append(refine(probabilities, images, iterations))
            times.append(time.process_time() - start)
        best = [min(pair) for pair in zip(best, times, strict=True)]
    return best, float((results[0] - results[1]).abs().max())


def row_of(name: str, windows: int, seconds: Sequence[float], difference: float) -> dict[str, Any]:
    """Returns a row of the table."""
    network, formula, code = (1e3 * each for each in seconds)
    return {
        "windows": f"{windows} of {name}",
        "network_ms": round(network, 1),
        "formula_ms": round(formula, 1),
        "code_ms": round(code, 1),
        "share_before": round(formula / network, 3),
        "share_after": round(code / network, 3),
        "largest_difference": f"{difference:.1e}",
    }


def random_windows(size: int, count: int, width: float, repeats: int) -> dict[str, Any]:
    """Returns the row of random windows and an untrained network."""
    generator = torch.Generator().manual_seed(0)
    images = 2 * torch.rand(count, 1, size, size, generator=generator) - 1
    network = for_inference(Segmenter(width=width).eval())
    return row_of(f"{size} x {size}, width {width:g}", count, *time_turns(images, network, 10, repeats))


def scan_windows(path: Path, model_dir: str | None, repeats: int) -> dict[str, Any]:
    """Returns the row of the windows that inference segments a scan by.

    Raises:
        InputError: when the scan does not exist.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such scan: give NIfTI files or folders of one DICOM series.")
    parser = read_parser(model_dir)
    parser["inferer#pamr_iterations"] = 0  # of the inferer; the windows are refined here
    fingerprint, network = parser.get_parsed_content("fingerprint"), parser.get_parsed_content("network")
    image = parser.get_parsed_content("preprocessing")({"image": str(path)})["image"]
    assert isinstance(image, MetaTensor)
    batches: list[torch.Tensor] = []

    def watched(images: torch.Tensor) -> torch.Tensor:
        batches.append(torch.as_tensor(images))
        return network(images)

    parser.get_parsed_content("inferer").segment(image, watched, "cpu")
    measured = [time_turns(images, network, fingerprint.pamr_iterations, repeats) for images in batches]
    seconds = [sum(each) for each in zip(*(times for times, _ in measured), strict=True)]
    return row_of(path.name, sum(map(len, batches)), seconds, max(difference for _, difference in measured))


def as_texts(row: dict[str, Any]) -> dict[str, str]:
    """Returns a row as a document has it."""
    return {
        "windows": row["windows"],
        "network (ms)": str(row["network_ms"]),
        "formula (ms)": str(row["formula_ms"]),
        "compiled (ms)": str(row["code_ms"]),
        "share of the network, formula": f"{100 * row['share_before']:.0f} %",
        "share of the network, compiled": f"{100 * row['share_after']:.1f} %",
        "largest difference": row["largest_difference"],
    }


def main(
    *scans: str,
    model_dir: str | None = None,
    repeats: int = 7,
    json: str | None = None,
    document: str | None = None,
) -> None:
    """Prints the table.

    Args:
        scans: CT scans, NIfTI files or folders of one DICOM series.
        model_dir: folder of `model.pt` and `fingerprint.json` for the scans; the bundle's own by default.
        repeats: number of measurements of each way.
        json: file to write the rows to.
        document: a document whose table `benchmark_refinement` is replaced.
    """
    with torch.inference_mode():
        rows = [random_windows(*size, repeats) for size in SIZES]
        rows += [scan_windows(Path(path), model_dir, repeats) for path in scans]
    print_rows(rows, f"{torch.get_num_threads()} threads")
    if json:
        write_json(Path(json), {"threads": torch.get_num_threads(), "rows": rows})
    if document:
        put_table(Path(document), "benchmark_refinement", [as_texts(row) for row in rows])


if __name__ == "__main__":
    run_command_line(main)
