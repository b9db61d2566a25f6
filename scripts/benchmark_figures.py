"""Draws the figures of the benchmark from its complete cells, in the style of the paper.

    python scripts/benchmark_figures.py OUTPUT [--rows 4]

OUTPUT is the output folder of scripts/benchmark.py, which calls this script. Writes OUTPUT/figures/<data
set>_translation.png (Figure 3: images, their translations and reconstructions), and for each list of methods <data
set>_methods.png (Figure 4) and <data set>_ablation.png (Figure 5): a row for each scan with its image, the prediction
of each method, and the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import torch
from benchmark_cells import read_json
from command_line import run_command_line
from monai.bundle import ConfigParser
from monai.transforms import Compose
from panels import draw, load_row, middle_slice, read_config, translate
from sifa.utils.files import temporary_beside

WIDTH = 20  # characters in a line of a column title
TRANSLATION = "translation"  # the figure whose method shows images; the others compare predictions


def read_cell(cell: Mapping[str, str], split: str) -> ConfigParser:
    """Returns the config of a cell's model."""
    parser = read_config(cell["model_dir"], cell["dataset_dir"])
    parser["split"] = split
    return parser


def translation(cell: Mapping[str, str], split: str, rows: int, path: Path) -> None:
    """Draws source and target images, their translations and reconstructions, if the cell has generators."""
    if not (Path(cell["model_dir"]) / "generators").is_dir():
        return
    parser = read_cell(cell, split)
    dataset = parser.get_parsed_content("dataset_description")
    drawn = []
    for source, target in zip(
        dataset.source_training, parser.get_parsed_content("validate#dataset#data"), strict=False
    ):
        sample = load_row(parser, source, target)
        images = {key: value[0].numpy() for key, value in sample.items()}
        drawn.append(images | translate(parser, Path(cell["model_dir"]), sample))
        if len(drawn) == rows:
            break
    source_modality, target_modality = dataset.source_modality, dataset.target_modality
    headings = {
        "source_image": f"x_s: {source_modality}",
        "fake_target": f"G_t(x_s): fake {target_modality}",
        "reconstructed_source": f"U(E(G_t(x_s))): reconstructed {source_modality}",
        "target_image": f"x_t: {target_modality}",
        "fake_source": f"U(E(x_t)): fake {source_modality}",
        "reconstructed_target": f"G_t(U(E(x_t))): reconstructed {target_modality}",
    }
    save(drawn, parser, headings, path)


def comparison(
    cells: Mapping[str, Mapping[str, str]], labels: Mapping[str, str], split: str, rows: int, path: Path
) -> None:
    """Draws the scans and the prediction of each method, all in the grid of the first method's network.

    Args:
        cells: cell of each method, all of one seed.
        labels: column title of each method.
        split: split of the labeled target scans.
        rows: number of scans.
        path: the PNG to write.
    """
    reference = read_cell(next(iter(cells.values())), split)
    steps = reference.get_parsed_content("train#target_preprocessing").transforms
    prepare = Compose(steps[2:])  # without loading scans and mapping labels to classes, which is done
    scans = reference.get_parsed_content("validate#dataset")
    count = min(rows, len(scans))
    drawn: list[dict[str, np.ndarray]] = []
    slices = []
    for index in range(count):
        shown = prepare(scans[index])
        slices.append(middle_slice(shown["label"]))
        names = {"target_image": "image", "target_label": "label"}
        drawn.append({key: _slice_of(shown[name], slices[-1]) for key, name in names.items()})
    for method, cell in cells.items():
        parser = read_cell(cell, split)
        network, inferer = parser.get_parsed_content("network"), parser.get_parsed_content("validate#inferer")
        for index in range(count):
            scan = scans[index]
            scan["label"][...] = inferer(scan["image"][None], network)[0].to(scan["label"].dtype)
            drawn[index][f"pred_{method}"] = _slice_of(prepare(scan)["label"], slices[index])
    titles = {f"pred_{method}": fill(labels[method], WIDTH) for method in cells}
    save(drawn, reference, {"target_image": "image", **titles, "target_label": "truth"}, path)


def _slice_of(volume: torch.Tensor, index: int) -> np.ndarray:
    return volume[0, ..., index].numpy(force=True)


def save(rows: Sequence[dict[str, Any]], parser: ConfigParser, headings: Mapping[str, str], path: Path) -> None:
    """Writes the picture."""
    structures = parser.get_parsed_content("fingerprint").structure_names
    wrapped = {key: fill(heading, WIDTH) for key, heading in headings.items()}
    with temporary_beside(path) as temporary:
        draw(rows, structures, wrapped).savefig(temporary, dpi=110, bbox_inches="tight")  # titles of several lines


def of_one_seed(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Returns the cells of the seed that most methods have; of several such seeds, the first."""
    seeds = sorted({seed for method in methods.values() for seed in method["cells"]}, key=int)
    best = max(seeds, key=lambda seed: sum(seed in method["cells"] for method in methods.values()), default=None)
    return {name: method["cells"][best] for name, method in methods.items() if best in method["cells"]}


def main(output: str, rows: int = 4) -> None:
    """Draws all figures of a benchmark.

    Args:
        output: folder of the benchmark.
        rows: number of scans in a figure.
    """
    matplotlib.use("Agg")
    content = read_json(Path(output) / "results.json")
    for dataset, entry in content["datasets"].items():
        for figure, names in content["figures"].items():
            methods = {name: entry["methods"][name] for name in names if name in entry["methods"]}
            cells, path = of_one_seed(methods), Path(output) / "figures" / f"{dataset}_{figure}.png"
            with torch.inference_mode():
                if figure == TRANSLATION:
                    for cell in cells.values():
                        translation(cell, entry["split"], rows, path)
                elif cells:
                    labels = {name: method["label"] for name, method in methods.items()}
                    comparison(cells, labels, entry["split"], rows, path)


if __name__ == "__main__":
    run_command_line(main)
