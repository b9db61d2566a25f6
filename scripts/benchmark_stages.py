"""Times inference from a scan's files to its mask, stage by stage: seconds of each and its share of the whole.

    python scripts/benchmark_stages.py [CT.nii.gz ...] [--slices 600] [--model_dir DIR] [--repeats 3] [--json FILE]
        [--document FILE]

Each scan, a file or the folder of one DICOM series, goes through what `run inference` runs: it is found, hashed, read,
segmented, measured, written and recorded. `--slices` adds a generated DICOM series of 512 x 512 pixels. The functions
of a stage are replaced by timed ones while a scan runs, see `stage_clock.py`. Of several runs the shortest counts. The
start of Python and the loading of the weights are not included. Seconds are CPU seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from benchmark_inference import read_parser
from command_line import run_command_line
from document_tables import put_table
from generated_series import PIXELS, write_series
from rich.console import Console
from rich.table import Table
from sifa.inference.manifest import Manifest
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.transforms.slices import ScanSlices
from sifa.utils.errors import InputError
from sifa.utils.files import write_json
from stage_clock import Place, StageClock
from torch import nn

STAGES = {  # in the order in which a scan passes through them
    "headers": "find the scan, headers of DICOM",
    "hash": "hash of the content",
    "read": "voxels: decompress, decode",
    "check": "checks of intensities and grid",
    "sample": "HU to [-1, 1], to the network's pixels",
    "network": "network",
    "refine": "PAMR",
    "windows": "cut windows, average them",
    "labels": "most probable class, confidence, entropy",
    "restore": "to the scan's pixels",
    "components": "connected components, spatial prior",
    "measure": "volumes, intensities, flags",
    "write": "mask as .nii.gz",
    "record": "log, manifest, volumes.csv",
    "other": "everything else",
}


def places(network: nn.Module) -> list[Place]:
    """Returns the functions of the bundle that make up each stage."""
    return [
        ("sifa.inference.find_scans", "read_slices", "headers"),
        ("sifa.io.dicom_headers", "read_slices", "headers"),
        ("sifa.io.dicom_reader", "read_slices", "headers"),
        ("sifa.inference.segment_scans", "content_hash", "hash"),
        ("sifa.inference.segment_scans", "read_scan", "read"),
        ("sifa.inference.segment_scans", "check_scan", "check"),
        (ScanSlices, "sample", "sample"),
        (network, "forward", "network"),
        ("sifa.inference.slice_segmenter", "refine_with_pamr", "refine"),
        ("sifa.inference.slice_segmenter", "sliding_window_inference", "windows"),
        (SliceSegmenter, "segment", "labels"),
        (ScanSlices, "restore", "restore"),
        ("sifa.inference.slice_segmenter", "remove_implausible_components", "components"),
        ("sifa.inference.quality", "measure", "measure"),
        ("sifa.inference.segment_scans", "write_mask", "write"),
        (Manifest, "record", "record"),
        (Manifest, "fold", "record"),
    ]


def time_scan(scan: Path, model_dir: str | None) -> dict[str, float]:
    """Segments a scan and returns the seconds of each stage.

    Raises:
        InputError: when the scan does not exist, is more than one, or cannot be segmented.
    """
    if not scan.exists():
        raise InputError(f"{scan}: there is no such scan: give NIfTI files or folders of one DICOM series.")
    with tempfile.TemporaryDirectory() as output:
        parser = read_parser(model_dir)
        parser.update({"dataset_dir": str(scan), "output_dir": output})
        clock = StageClock()
        network = parser.get_parsed_content("network")
        with clock.watching(places(network)):
            with clock.stage("headers"):
                found = parser.get_parsed_content("scans")
            if len(found) != 1:
                raise InputError(f"{scan}: it holds {len(found)} scans: give files or folders of one DICOM series.")
            segment_scan, evaluator = (parser.get_parsed_content(name) for name in ("segment_scan", "evaluator"))
            with clock.stage("other"):
                evaluator.run()
                segment_scan.finish()
    return {stage: clock.seconds[stage] for stage in STAGES}


def row_of(name: str, seconds: dict[str, float]) -> dict[str, Any]:
    """Returns the times of a scan, with their sum and their shares of it."""
    total = sum(seconds.values())
    return {
        "scan": name,
        "total": round(total, 3),
        "seconds": {stage: round(time, 3) for stage, time in seconds.items()},
        "percent": {stage: round(100 * time / total, 1) for stage, time in seconds.items()},
    }


def measure(scans: Sequence[Path], model_dir: str | None, repeats: int) -> list[dict[str, Any]]:
    """Returns a row for each scan: of its runs, after one to warm up, the shortest."""
    time_scan(scans[0], model_dir)
    rows = []
    for scan in scans:
        runs = [time_scan(scan, model_dir) for _ in range(repeats)]
        rows.append(row_of(scan.name, min(runs, key=lambda seconds: sum(seconds.values()))))
    return rows


def main(
    *scans: str,
    slices: int = 0,
    model_dir: str | None = None,
    repeats: int = 3,
    json: str | None = None,
    document: str | None = None,
) -> None:
    """Prints the table.

    Args:
        scans: CT scans, NIfTI files or folders of one DICOM series.
        slices: of a generated DICOM series; 0: none.
        model_dir: folder of `model.pt` and `fingerprint.json`; the bundle's own by default.
        repeats: number of runs of each scan.
        json: file to write the rows to.
        document: a document whose table `benchmark_stages` is replaced.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = [Path(scan) for scan in scans]
        if slices:
            given.append(Path(folder) / f"{PIXELS} x {PIXELS} x {slices}")
            write_series(given[-1], slices)
        if not given:
            raise InputError("there is no scan to time: give files or folders, or --slices 600 for a generated series.")
        rows = measure(given, model_dir, repeats)
    show(rows)
    if json:
        write_json(Path(json), {"threads": torch.get_num_threads(), "rows": rows})
    if document:
        put_table(Path(document), "benchmark_stages", as_texts(rows))


def as_texts(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Returns the table as a document has it: a row for each stage, a column for each scan."""
    shown = [
        {"stage": text, **{row["scan"]: f"{row['seconds'][stage]:.2f} ({row['percent'][stage]:.1f} %)" for row in rows}}
        for stage, text in STAGES.items()
    ]
    return [*shown, {"stage": "all", **{row["scan"]: f"{row['total']:.2f}" for row in rows}}]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints the stages of all scans."""
    table = Table("stage", title=f"seconds and share of the whole, {torch.get_num_threads()} threads")
    for row in rows:
        table.add_column(row["scan"], justify="right")
    for stage, text in STAGES.items():
        table.add_row(text, *(f"{row['seconds'][stage]:.2f} {row['percent'][stage]:5.1f} %" for row in rows))
    table.add_row("all", *(f"{row['total']:.2f} 100.0 %" for row in rows))
    Console(width=150).print(table)


if __name__ == "__main__":
    run_command_line(main)
