"""Compares predicted Dice with true Dice, on generated CT scans of mixed quality or on the labeled scans of a data set.

    python scripts/benchmark_trust.py OUTPUT --model_dirs "[RUN,...]" [--scans 60] [--seed 100] [--trust full]
    python scripts/benchmark_trust.py OUTPUT --model_dirs "[RUN,...]" --dataset_dir DATA [--document FILE --table NAME]

Each RUN is a training with a `calibration.json` (`run calibrating`), on the heart phantom or on the data set. Generated
scans are those of other anatomies than any seed of the trainings', most of them damaged (`mixed_quality.py`). Of a data
set, `target.test` is taken, or `target.validation` where there is no such list. `run inference` segments the scans; the
labels are only read to measure. OUTPUT/trust.json has all figures, OUTPUT/trust.md the table, which also replaces that
of FILE between the comments `<!-- NAME -->` (`benchmark_trust`) and `<!-- end -->`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from bundle_command import bundle, environment
from command_line import run_command_line
from document_tables import markdown, put_text, split_at
from mixed_quality import damage
from scipy.stats import spearmanr
from sifa.data.dataset_json import read_dataset
from sifa.fingerprint.fingerprint import Fingerprint, read_fingerprint
from sifa.inference.manifest_file import read_cases
from sifa.io.nifti_files import load_nifti
from sifa.io.scan_reader import load_label
from sifa.quality_control.calibration import NAME
from sifa.quality_control.signals import agreement
from sifa.transforms.label_values import map_labels
from sifa.utils.errors import InputError
from sifa.utils.files import write_json, write_text
from sifa.utils.options import names_of
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
FALSE_ALARMS, WORST, POOR = 0.1, 0.1, 0.5
UNDAMAGED = "none"

Numbers = npt.NDArray[np.float64]


class Mask(NamedTuple):
    """What is known of the mask of a structure in a scan that shows it."""

    scan: str
    damage: str
    structure: str
    dice: float
    predicted: float
    low: float
    high: float
    confidence: float  # mean of the largest class probability; 0 where the mask is empty


def write_scans(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Writes scans of mixed quality to `images` and `labels`; returns the damage of each by name."""
    generated = folder / "generated"
    counts = {"source_training": 1, "source_validation": 0, "target_training": 1, "target_validation": 0}
    options = [f"--{name}={value}" for name, value in {**counts, "target_test": count, "seed": seed}.items()]
    command = [sys.executable, str(ROOT / "scripts" / "make_phantom.py"), str(generated), *options]
    subprocess.run(command, check=True, env=environment())
    damages = {}
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number, path in enumerate(tqdm(sorted((generated / "ct_images").glob("ct_test_*")), desc="damage")):
        image, label = (load_nifti(generated / f"ct_{kind}" / path.name) for kind in ("images", "labels"))
        volume, labels, damages[path.name] = damage(
            np.asarray(image.dataobj, dtype=np.float32),
            np.asarray(label.dataobj).astype(np.uint8),
            np.random.default_rng([seed, number]),
        )
        nib.save(nib.Nifti1Image(np.round(volume).astype(np.int16), image.affine), folder / "images" / path.name)
        nib.save(nib.Nifti1Image(labels, image.affine), folder / "labels" / path.name)
    return damages


def copy_scans(folder: Path, dataset_dir: str) -> dict[str, str]:
    """Copies the labeled target scans of a data set, with classes in labels, likewise."""
    dataset = read_dataset(Path(dataset_dir) / "dataset.json", needs_target=False)
    items = dataset.target_test or dataset.target_validation
    if not items:
        raise InputError(f"{dataset.path}: neither target.test nor target.validation lists labeled scans: add some.")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    damages = {}
    for item in items:
        image, (values, affine) = Path(item["image"]), load_label(item["label"])
        name = image.name if image.name.endswith(".nii.gz") else f"{image.name}.nii.gz"
        if name in damages:
            raise InputError(f"{image}: another labeled scan has the same name: rename one.")
        nib.save(load_nifti(image), folder / "images" / name)
        labels = map_labels(values, dataset.target_label_map) if dataset.target_label_map else values
        nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), folder / "labels" / name)
        damages[name] = UNDAMAGED
    return damages


def measure(scans: Path, masks: Path, damages: Mapping[str, str], fingerprint: Fingerprint) -> list[Mask]:
    """Compares the masks of a run with labels, and what the run predicted with both."""
    found = []
    classes = {value: index for index, value in fingerprint.mask_values.items()}
    for case in read_cases(masks / "manifest.json"):
        if not case.is_segmented or case.quality is None:
            raise InputError(f"{masks}: {case.input} was not segmented ({case.message}).")
        truth, mask = (
            np.asarray(load_nifti(path).dataobj) for path in (scans / "labels" / case.input, masks / str(case.output))
        )
        segmented = map_labels(mask, classes).astype(np.uint8)
        dice = agreement(truth.astype(np.uint8), segmented, len(classes))
        for value, name in fingerprint.structure_names.items():
            entry = case.quality[name]
            if "predicted_dice" not in entry:
                raise InputError(f"{masks}: there is no predicted Dice: run calibrating for the model first.")
            if (truth == value).any():
                predicted = (entry["predicted_dice"], entry["low"], entry["high"])
                found.append(
                    Mask(
                        case.input,
                        damages[case.input],
                        name,
                        float(dice[value]),
                        *predicted,
                        entry["confidence"] or 0.0,
                    )
                )
    return found


def area_under_risk_coverage(order_by: Numbers, dice: Numbers) -> float:
    """Returns the mean over all coverages of 1 - Dice of the masks that are trusted most (AURC)."""
    risks = 1 - dice[np.argsort(-order_by, kind="stable")]
    return float(np.mean(np.cumsum(risks) / np.arange(1, len(risks) + 1)))


def order_of(predicted: Numbers, dice: Numbers) -> float:
    """Returns Spearman's correlation; 0 where all predictions are equal, NaN where all masks are equally good."""
    if np.ptp(dice) == 0:
        return float("nan")
    return float(spearmanr(predicted, dice).statistic) if np.ptp(predicted) else 0.0


def caught_at(predicted: Numbers, dice: Numbers) -> float:
    """Returns the share of the worst tenth below the threshold that a tenth of the other masks is below.

    NaN where all masks are equally good.
    """
    if np.ptp(dice) == 0:
        return float("nan")
    is_worst = dice <= np.quantile(dice, WORST)
    threshold = np.quantile(predicted[~is_worst], FALSE_ALARMS)
    return float(np.mean(predicted[is_worst] <= threshold))


def summarize(masks: Sequence[Mask]) -> dict[str, Any]:
    """Returns the figures of one model; correlations and shares are means over structures that define them."""
    structures = dict.fromkeys(mask.structure for mask in masks)
    groups = [[mask for mask in masks if mask.structure == name] for name in structures]

    def over_structures(function: Callable[[Numbers, Numbers], float], field: str = "predicted") -> float:
        found = np.array([function(column(group, field), column(group, "dice")) for group in groups])
        return float(np.mean(found[np.isfinite(found)])) if np.isfinite(found).any() else float("nan")

    dice, predicted, low, high = (column(masks, field) for field in ("dice", "predicted", "low", "high"))
    return {
        "masks": len(masks),
        "dice": float(dice.mean()),
        "spearman": over_structures(order_of),
        "mae": float(np.abs(predicted - dice).mean()),
        "mae_of_median": over_structures(lambda _, true: float(np.abs(true - np.median(true)).mean())),
        "bias": float((predicted - dice).mean()),
        "caught": over_structures(caught_at),
        "poor_seen": float(np.mean(predicted[dice < POOR] < POOR)) if (dice < POOR).any() else float("nan"),
        "covered": float(np.mean((low <= dice) & (dice <= high))),
        "width": float((high - low).mean()),
        "aurc": over_structures(area_under_risk_coverage),
        "aurc_of_confidence": over_structures(area_under_risk_coverage, "confidence"),
    }


def column(masks: Sequence[Mask], field: str) -> Numbers:
    """Returns a field of all masks."""
    return np.array([getattr(mask, field) for mask in masks], dtype=float)


HEADINGS = {
    "dice": "true Dice",
    "spearman": "Spearman",
    "mae": "MAE",
    "mae_of_median": "MAE of the median Dice",
    "bias": "bias",
    "caught": "worst tenth caught",
    "poor_seen": "of those below 0.5, predicted below 0.5",
    "covered": "in the interval",
    "width": "width",
    "aurc": "AURC",
    "aurc_of_confidence": "AURC of the confidence",
}


def as_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the Markdown table of the models' figures."""
    figures = [[name, *(f"{row[key]:.3f}" for key in HEADINGS)] for name, row in rows.items()]
    return markdown([["model", *HEADINGS.values()], *figures])


def main(
    output: str,
    *,
    model_dirs: list[str] | str,
    scans: int = 60,
    seed: int = 100,
    dataset_dir: str | None = None,
    trust: str = "fast",
    document: str | None = None,
    table: str = "benchmark_trust",
) -> None:
    """Compares predicted Dice with true Dice; the same command resumes.

    Args:
        output: folder of scans, masks and tables.
        model_dirs: trainings on the heart phantom or on the data set, with calibration.json.
        scans: number of generated scans.
        seed: of their anatomies and damages; choose one that no training had.
        dataset_dir: data set whose labeled target scans take the place of generated ones.
        trust: signals, `fast` or `full`.
        document: Markdown file whose table is replaced.
        table: its name there.
    """
    folder = Path(output).absolute()
    models = [Path(one) for one in names_of("model_dirs", model_dirs)]
    for model in models:
        if not (model / NAME).is_file():
            raise InputError(f"{model / NAME}: there is no such file: run calibrating for this model first.")
    if document:
        split_at(Path(document), table)
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / ("scans" if dataset_dir else f"scans_{scans}_{seed}")
    if not (data / "damages.json").is_file():
        data.mkdir()
        write_json(
            data / "damages.json", copy_scans(data, dataset_dir) if dataset_dir else write_scans(data, scans, seed)
        )
    damages: dict[str, str] = json.loads((data / "damages.json").read_text(encoding="utf-8"))
    rows, masks = {}, {}
    for model in models:
        made = folder / "masks" / trust / model.name
        options = {
            "trust": trust,
            "model_dir": model,
            "dataset_dir": data / "images",
            "output_dir": made,
            "previews": False,
        }
        subprocess.run(bundle("inference", ["inference.yaml"], **options), check=True, env=environment())
        found = measure(data, made, damages, read_fingerprint(model / "fingerprint.json"))
        rows[model.name], masks[model.name] = summarize(found), [mask._asdict() for mask in found]
    write_json(folder / "trust.json", {"scans": len(damages), "seed": seed, "models": rows, "masks": masks})
    text = as_table(rows)
    write_text(folder / "trust.md", f"{text}\n")
    if document:
        put_text(Path(document), table, text)
    print(text)


if __name__ == "__main__":
    run_command_line(main)
