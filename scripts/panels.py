"""Draws the images of a trained adaptation: MR, fake CT, CT, fake MR, prediction and truth, one row per subject.

    python scripts/panels.py --model_dir DIR --dataset_dir DIR --output panels.png [--split test] [--rows 4]

`model_dir` is the `output_dir` of a training, with model.pt, fingerprint.json and generators/.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from command_line import run_command_line
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from monai.bundle import ConfigParser
from monai.networks import one_hot
from sifa.networks.weights import guiding_classes, load_weights
from sifa.postprocessing.pamr import refine_with_pamr
from sifa.reports.colors import COLORS
from sifa.utils.errors import InputError
from sifa.utils.files import temporary_beside

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"


def read_config(model_dir: str, dataset_dir: str) -> ConfigParser:
    """Returns the parsed training config with networks and preprocessing as in the fingerprint in `model_dir`."""
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("train.yaml", "evaluate.yaml")])
    parser.update({"model_dir": model_dir, "dataset_dir": dataset_dir, "device": "cpu"})
    return parser


def middle_slice(label: torch.Tensor) -> int:
    """Returns the index of the slice of (1, H, W, D) with the most structures, and among these the most voxels."""
    slices = torch.as_tensor(label).as_subclass(torch.Tensor).unbind(-1)
    structures, areas = [len(part.unique()) for part in slices], [int((part > 0).sum()) for part in slices]
    return max(range(label.shape[-1]), key=lambda index: (structures[index], areas[index]))


def translate(parser: ConfigParser, model_dir: Path, sample: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Runs the networks on one source and one target slice.

    Args:
        parser: the config.
        model_dir: folder of the weights.
        sample: `source_image` and `target_image`, (1, H, W) in [-1, 1], and `source_label` (1, H, W).

    Returns:
        `fake_target`, `fake_source`, `reconstructed_source` and `reconstructed_target` (H, W) in [-1, 1] if
        generators were trained, and `pred` (H, W), class indices.
    """
    segmenter = parser.get_parsed_content("network")
    target = sample["target_image"][None]
    steps = parser.get_parsed_content("fingerprint").pamr_iterations
    result = {"pred": refine_with_pamr(segmenter(target).softmax(dim=1), target, steps).argmax(dim=1)[0].numpy()}
    if not (model_dir / "generators").is_dir():
        return result
    weights = model_dir / "generators" / "target_generator.pt"
    channels = parser.get_parsed_content("fingerprint").network.in_channels
    parser["target_generator#num_classes"] = guiding_classes(weights, channels)
    generator = parser.get_parsed_content("target_generator")
    decoder = parser.get_parsed_content("source_decoder")
    load_weights(generator, weights)
    load_weights(decoder, model_dir / "generators" / "source_decoder.pt")
    latent, count = segmenter.encoder(target), generator.num_classes
    truth = one_hot(sample["source_label"][None], count) if count else None
    found = segmenter.pixel_classifier(latent).softmax(dim=1) if count else None
    fake_target, fake_source = generator(sample["source_image"][None], truth), decoder(latent, target)
    images = {
        "fake_target": fake_target,
        "fake_source": fake_source,
        "reconstructed_source": decoder(segmenter.encoder(fake_target), fake_target),
        "reconstructed_target": generator(fake_source, found),
    }
    return result | {name: image[0, 0].numpy() for name, image in images.items()}


def load_row(parser: ConfigParser, source: Mapping[str, str], target: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Returns `source_image`, `target_image` (1, H, W) in [-1, 1] and their labels (1, H, W) of one row."""
    prepared_source = parser.get_parsed_content("train#preprocessing")(dict(source))
    prepared_target = parser.get_parsed_content("train#target_preprocessing")(dict(target))
    source_index, target_index = middle_slice(prepared_source["label"]), middle_slice(prepared_target["label"])
    return {
        "source_image": prepared_source["image"].as_tensor()[..., source_index],
        "source_label": prepared_source["label"].as_tensor()[..., source_index],
        "target_image": prepared_target["image"].as_tensor()[..., target_index],
        "target_label": prepared_target["label"].as_tensor()[..., target_index],
    }


def draw(
    rows: Sequence[Mapping[str, np.ndarray]], structures: Mapping[int, str], headings: Mapping[str, str]
) -> Figure:
    """Draws one row of images for each item; masks are overlaid on the target image.

    Args:
        rows: an image (H, W) in [-1, 1] for each key of `headings`; class indices for `target_label` and keys that
            begin with `pred`.
        structures: names by value, without the background.
        headings: column title of each key, in order.
    """
    columns = [key for key in headings if all(key in row for row in rows)]
    figure = Figure(figsize=(2 * len(columns), 2 * len(rows) + 0.5), facecolor="white")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        for ax, key in zip(axes, columns, strict=True):
            _draw_one(ax, row, key)
    for ax, key in zip(grid[0], columns, strict=True):
        ax.set_title(headings[key], fontsize=10)
    if any(_is_mask(key) for key in columns):
        patches = [Patch(color=_color(value), label=name) for value, name in structures.items()]
        figure.legend(handles=patches, loc="lower center", ncols=4, fontsize=8, frameon=False)
    figure.tight_layout(pad=0.3, rect=(0, 0.5 / (2 * len(rows) + 0.5), 1, 1))
    return figure


def _color(value: int) -> str:
    return COLORS[(value - 1) % len(COLORS)]


def _is_mask(key: str) -> bool:
    return key == "target_label" or key.startswith("pred")


def _draw_one(ax: Axes, row: Mapping[str, np.ndarray], key: str) -> None:
    ax.imshow(row["target_image"] if _is_mask(key) else row[key], cmap="gray", vmin=-1, vmax=1)
    if _is_mask(key):
        highest = max(int(row[name].max()) for name in row if _is_mask(name))
        colors = ListedColormap([_color(value) for value in range(1, highest + 1)] or ["black"])
        ax.imshow(np.ma.masked_equal(row[key], 0), cmap=colors, vmin=1, vmax=max(highest, 2), alpha=0.55)
    ax.axis("off")


def main(model_dir: str, dataset_dir: str, output: str, split: str = "test", rows: int = 4) -> None:
    """Writes the figure.

    Args:
        model_dir: the `output_dir` of a training.
        dataset_dir: the data set that it was trained on.
        output: the PNG to write.
        split: labeled target scans to show: test or validation.
        rows: number of subjects.
    """
    parser = read_config(model_dir, dataset_dir)
    parser["split"] = split
    try:
        dataset = parser.get_parsed_content("dataset_description")
        targets = parser.get_parsed_content("validate#dataset#data")[:rows]
        fingerprint = parser.get_parsed_content("fingerprint")
        drawn = []
        with torch.inference_mode():
            for source, target in zip(dataset.source_training, targets, strict=False):
                sample = load_row(parser, source, target)
                images = {key: value[0].numpy() for key, value in sample.items()}
                drawn.append(images | translate(parser, Path(model_dir), sample))
    except (InputError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    headings = {
        "source_image": dataset.source_modality,
        "fake_target": f"fake {dataset.target_modality}",
        "target_image": dataset.target_modality,
        "fake_source": f"fake {dataset.source_modality}",
        "pred": "prediction",
        "target_label": "truth",
    }
    matplotlib.use("Agg")
    with temporary_beside(Path(output)) as temporary:
        draw(drawn, fingerprint.structure_names, headings).savefig(temporary, dpi=110)


if __name__ == "__main__":
    run_command_line(main)
