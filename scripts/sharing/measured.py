"""The evaluation of a run that its model card reports: which results.json it is, and the figures of each structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sifa.metrics.metric_list import ASSD_MM, DICE, HD95
from sifa.metrics.results import as_number, as_text, read_results
from sifa.metrics.summary import Bootstrap
from sifa.reports.results_tables import mean_and_sd
from sifa.utils.errors import InputError

from sharing.trained_run import TrainedRun

SHOWN = (DICE, ASSD_MM, HD95)  # in the card, where the file has them
DIGITS = 2  # of all figures


@dataclass(frozen=True)
class Measured:
    """Figures of an evaluation.

    Attributes:
        headings: of the table: structure and metrics.
        rows: a row for each structure and one for their mean.
        cases: number of scans.
        failed: number of scans that could not be measured.
        names_weights: whether the file itself says that these weights were measured.
        dice: the mean Dice of each structure as a fraction, None where it is not available.
        mean_dice: their mean.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    cases: int
    failed: int
    names_weights: bool
    dice: dict[str, float | None]
    mean_dice: float | None


def find_results(folder: Path, run: TrainedRun) -> Path | None:
    """Returns the results.json of these weights in a run's folder or one level below; None: there is none.

    Raises:
        InputError: when there are several.
    """
    found = [path for path in sorted([*folder.glob("results.json"), *folder.glob("*/results.json")]) if path.is_file()]
    fitting = [path for path in found if read_results(path).weights_sha256 == run.weights_sha256]
    if len(fitting) > 1:
        raise InputError(f"{fitting[0]} and {fitting[1]}: both measure these weights: choose one by --results.")
    return fitting[0] if fitting else None


def read_measured(path: Path, run: TrainedRun) -> Measured:
    """Reads the evaluation of a run.

    Raises:
        InputError: when it is not one, or measures other structures or other weights.
    """
    results = read_results(path)
    structures = list(run.fingerprint.structure_names.values())
    if sorted(results.structures) != sorted(structures):
        raise InputError(
            f"{path}: it measures {', '.join(results.structures)}, and the run segments {', '.join(structures)}: give "
            "the results of this run."
        )
    if results.weights_sha256 not in (None, run.weights_sha256):
        raise InputError(f"{path}: it measures other weights than those of the run: run evaluating with this run.")
    if DICE not in results.values or not results.cases:
        raise InputError(f"{path}: it holds no Dice of any scan: give the results.json of run evaluating.")
    summaries = results.summaries(Bootstrap(resamples=1))  # its intervals are not shown
    shown = [metric for metric in SHOWN if metric in summaries]
    places = {name: list(results.structures).index(name) for name in structures}
    by_structure, overall = summaries[DICE]
    return Measured(
        headings=["structure", *(results.headings[metric] for metric in shown)],
        rows=[
            *(
                [name, *(mean_and_sd(summaries[metric][0][place], DIGITS) for metric in shown)]
                for name, place in places.items()
            ),
            ["mean", *(as_text(summaries[metric][1].mean, DIGITS) for metric in shown)],
        ],
        cases=len(results.cases),
        failed=len(results.failed),
        names_weights=results.weights_sha256 is not None,
        dice={name: as_number(by_structure[place].mean / 100) for name, place in places.items()},
        mean_dice=as_number(overall.mean / 100),
    )
