"""`selection.csv`: the label-free scores of all epochs, and which epoch they chose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sifa.reports.scalar_table import EPOCH, ITERATION, read_columns
from sifa.utils.errors import InputError

SCORE = "score"
SCORES = (SCORE, "agreement", "plausibility")  # of an epoch; see `sifa.adaptation.ModelSelectionScore`


@dataclass(frozen=True)
class SelectionScores:
    """The scores of a training's epochs.

    Attributes:
        epochs: numbers of the epochs, (rows,), ascending.
        iteration: the last one of the last epoch.
        values: `score` and its parts, (rows,) each; NaN where one is not available.
    """

    epochs: npt.NDArray[np.float64]
    iteration: int
    values: dict[str, npt.NDArray[np.float64]]

    @property
    def chosen(self) -> int:
        """The epoch with the highest score, of equal ones the last; an epoch without a score is chosen by none."""
        return int(self.epochs[self._row])

    @property
    def highest(self) -> float:
        """The highest score."""
        return float(self.values[SCORE][self._row])

    @property
    def _row(self) -> int:
        scores = np.nan_to_num(self.values[SCORE], nan=-np.inf)
        return len(scores) - 1 - int(np.argmax(scores[::-1]))


def read_scores(path: Path) -> SelectionScores | None:
    """Reads the table; None where there is none, or no epoch has a score.

    Raises:
        InputError: when it is damaged.
    """
    if not path.is_file():
        return None
    try:
        table = read_columns(path)
        values = {name: column for name, column in table.items() if name not in (EPOCH, ITERATION)}
        if not len(table[EPOCH]) or np.isnan(values[SCORE]).all():
            return None
        return SelectionScores(
            np.array([int(epoch) for epoch in table[EPOCH]], float), int(table[ITERATION][-1]), values
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: this is no table of scores: copy it again from the run.") from error
