"""Measures masks of any program on labels: overlap, surfaces and volumes, with tables and figures for a paper.

    python scripts/evaluate_masks.py MASKS LABELS --structures "1:liver,2:spleen" [--output_dir evaluation]

MASKS and LABELS are two folders of NIfTI, NRRD or MetaImage files whose names belong together, or two files. A mask has
the grid of its label. Writes results.csv, results.json, results.md, results.tex and results_box_plots (SVG and PNG);
bundle/docs/evaluation.md has the definitions. A pair that cannot be measured does not stop the others; the exit status
is then 1.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from command_line import run_command_line
from mask_pairs import MaskPair, pair_masks
from sifa.data.dataset_json import read_structures
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.io.grids import require_affine, require_same_grid
from sifa.io.scan_reader import load_label
from sifa.metrics.metric_list import ASSD_MM, DICE, HD95
from sifa.metrics.results import Results
from sifa.metrics.structure_metrics import LARGEST_VALUE, measure_case
from sifa.metrics.summary import Bootstrap
from sifa.reports.results_files import write_results
from sifa.reports.results_screen import print_results
from sifa.transforms.label_values import look_up
from sifa.utils.errors import InputError
from sifa.utils.options import require_positive, require_whole
from sifa.utils.paths import require_writable
from tqdm import tqdm

SHOWN = (DICE, ASSD_MM, HD95)  # on the terminal
EXAMPLE = '--structures "1:liver,2:spleen"'


def parse_structures(text: Any) -> dict[int, str]:
    """Returns the names of structures by label value from a text such as `1:liver,2:left kidney`.

    Raises:
        InputError: when it has another form, or a value or a name occurs more than once.
    """
    named: dict[int, str] = {}
    for part in str(text).split(","):
        value, _, name = (piece.strip() for piece in part.partition(":"))
        if not value.isdecimal() or not name or int(value) > LARGEST_VALUE:
            raise InputError(
                f"--structures {text}: {part.strip()!r} is not a label value and a name: write them like {EXAMPLE}."
            )
        if int(value) in named or name in named.values():
            raise InputError(f"--structures {text}: {part.strip()!r} repeats a value or a name: give each its own.")
        named[int(value)] = name
    structures = {value: name for value, name in named.items() if value != 0}
    if not structures:
        raise InputError(f"--structures {text}: it names the background only: write structures like {EXAMPLE}.")
    return structures


class Structures(NamedTuple):
    """What masks and labels may hold."""

    names: dict[int, str]  # of structures by value in masks
    values: dict[int, int]  # value in masks of each value that masks and labels may hold, the background included

    @classmethod
    def of(cls, names: Mapping[int, str]) -> Structures:
        """Returns structures whose labels hold the values that masks hold."""
        return cls(dict(names), {value: value for value in (0, *names)})


def find_structures(structures: Any, dataset_dir: Any) -> Structures:
    """Returns the structures, from one of two options.

    Args:
        structures: `--structures`.
        dataset_dir: `--dataset_dir`: a folder with a dataset.json or a fingerprint.json, or one of these files. The
            label map of a dataset.json applies to masks and labels.

    Raises:
        InputError: when both or neither are given, or the file cannot be used.
    """
    if (structures is None) == (dataset_dir is None):
        given = "both are given" if structures is not None else "neither is given"
        raise InputError(f"--structures and --dataset_dir: {given}: name the structures by one of them ({EXAMPLE}).")
    if structures is not None:
        return Structures.of(parse_structures(structures))
    path = Path(str(dataset_dir))
    if path.is_dir():
        path = next((path / name for name in ("dataset.json", "fingerprint.json") if (path / name).is_file()), path)
    if not path.is_file():
        raise InputError(
            f"--dataset_dir {path}: it holds neither dataset.json nor fingerprint.json: give one of them or {EXAMPLE}."
        )
    if path.name != "fingerprint.json":
        return Structures(*read_structures(path))
    return Structures.of(read_fingerprint(path).mask_names)


def load_values(path: Path, structures: Structures) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64]]:
    """Returns a label map (X, Y, Z), with the values of masks, and its affine to RAS in mm.

    Raises:
        InputError: when it cannot be read, or holds a value that is no structure.
    """
    values, affine = load_label(path)
    found, is_unknown = look_up(values, structures.values)
    unknown = values[is_unknown]
    if unknown.size:
        names = ", ".join(f"{value} ({name})" for value, name in sorted(structures.names.items()))
        raise InputError(
            f"{path}: it holds the value {unknown.min()}, which no structure has: the structures are {names}; name it "
            "or map it to one of them."
        )
    return found.astype(np.uint16), affine


def measure_pair(pair: MaskPair, structures: Structures, tolerance_mm: float) -> dict[str, list[float]]:
    """Returns the metrics of a pair, with a value for each structure in ascending order of label values.

    Raises:
        InputError: when one of the files cannot be used, or their grids differ.
    """
    require_same_grid(pair.mask, pair.label, "mask", "label")
    truth, affine = load_values(pair.label, structures)
    require_affine(affine, pair.label)
    pred, _ = load_values(pair.mask, structures)
    return measure_case(pred, truth, sorted(structures.names), nib.affines.voxel_sizes(affine), tolerance_mm)


def main(
    masks: str,
    labels: str,
    *,
    output_dir: str = "evaluation",
    structures: str | None = None,
    dataset_dir: str | None = None,
    tolerance_mm: float = 2.0,
    resamples: int = 10000,
    seed: int = 0,
) -> None:
    """Measures masks on labels and writes tables and figures.

    Args:
        masks: folder of masks, or one mask.
        labels: folder of labels, or one label.
        output_dir: folder to write to.
        structures: label values and names, such as "1:liver,2:spleen".
        dataset_dir: folder with a dataset.json or fingerprint.json that names the structures, in the place of
            --structures.
        tolerance_mm: tolerance of the normalized surface Dice in mm.
        resamples: resamples of the bootstrap over cases, for the intervals of means.
        seed: seed of the bootstrap.
    """
    require_positive(tolerance_mm=tolerance_mm)
    require_whole(least=1, resamples=resamples)
    require_whole(least=0, seed=seed)
    named = find_structures(structures, dataset_dir)
    pairing = pair_masks(Path(str(masks)), Path(str(labels)))
    require_writable(Path(str(output_dir)))
    failed, measured = dict(pairing.refused), {}
    for pair in tqdm(pairing.pairs, unit="case", disable=None):
        try:
            measured[pair.case] = measure_pair(pair, named, tolerance_mm)
        except (InputError, OSError) as error:
            failed[pair.case] = str(error)
    if measured:
        results = Results.of_cases(measured, named.names, tolerance_mm, failed)
        print_results(results, "results", SHOWN)
        write_results(results, Path(str(output_dir)), tolerance_mm, Bootstrap(resamples, seed))
        print(f"Cases measured: {len(measured)}; see results.md and the files beside it in {output_dir}.")
    if pairing.unused:
        print(f"Masks without a label, left out: {len(pairing.unused)}, such as {pairing.unused[0]}.")
    if failed:
        for case, reason in sorted(failed.items()):
            print(f"error: {case}: {reason}", file=sys.stderr)
        print(f"error: {len(failed)} of {len(failed) + len(measured)} cases could not be measured.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_command_line(main)
