"""The weight matrix of the loss: a column per updated module, a row per term, any entry constant or by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sifa.utils.errors import InputError
from sifa.utils.keys import LossTerms

COLUMNS = {  # what each module can minimize: terms whose graph leads to it, except those that the method leaves out
    "target_generator": (LossTerms.SOURCE_CYCLE, LossTerms.TARGET_CYCLE, LossTerms.TARGET_ADVERSARIAL),
    "segmenter": tuple(term for term in LossTerms if term is not LossTerms.TARGET_ADVERSARIAL),
    "source_decoder": (
        LossTerms.SOURCE_CYCLE,
        LossTerms.TARGET_CYCLE,
        LossTerms.SOURCE_ADVERSARIAL,
        LossTerms.AUXILIARY_ADVERSARIAL,
    ),
}


class LossWeights:
    """What each module minimizes: `{module: {term: weight}}`.

    A weight is a number, or a list with one number an epoch whose last one holds from there on (the ramp of w_p).

    Args:
        columns: the matrix as the config gives it; modules are `target_generator` (G_t), `segmenter` (E and C) and
            `source_decoder` (U), terms the values of `LossTerms`.

    Raises:
        InputError: when a module is unknown, a term is none that it can minimize, or a weight is neither a number nor a
            list of numbers.
    """

    def __init__(self, columns: Mapping[str, Mapping[str, float | Sequence[float]]]) -> None:
        self.columns: dict[str, dict[str, list[float]]] = {}
        for module, column in columns.items():
            if module not in COLUMNS:
                raise InputError(f"loss_weights names '{module}': choose from {', '.join(COLUMNS)}.")
            terms = [str(term.value) for term in COLUMNS[module]]
            for term in column:
                if term not in terms:
                    raise InputError(f"loss_weights#{module} names '{term}': choose from {', '.join(sorted(terms))}.")
            self.columns[module] = {
                term: _by_epoch(weight, f"loss_weights#{module}#{term}") for term, weight in column.items()
            }

    def at(self, module: str, term: LossTerms, epoch: int) -> float:
        """Returns the weight of `term` for `module` in `epoch` (counted from 1); a missing entry is 0."""
        by_epoch = self.columns.get(module, {}).get(str(term.value), [0.0])
        return by_epoch[min(epoch, len(by_epoch)) - 1]

    def total(self, module: str, terms: Mapping[LossTerms, torch.Tensor], epoch: int) -> torch.Tensor:
        """Returns the weighted sum of the scalar `terms` that `module` minimizes in `epoch`.

        Terms of weight 0 are left out, so that they cost no backward pass.
        """
        parts = [weight * loss for term, loss in terms.items() if (weight := self.at(module, term, epoch)) != 0]
        if not parts:
            raise InputError(f"loss_weights#{module} gives weight 0 to every term: nothing is left to minimize.")
        return torch.stack(parts).sum()


def _by_epoch(weight: float | Sequence[float], place: str) -> list[float]:
    """Returns a weight as a list; YAML hands 1e-1, without a point, over as a string."""
    values = weight if isinstance(weight, Sequence) and not isinstance(weight, str) else [weight]
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if not numbers:
        raise InputError(f"{place} is {weight!r}: give a number, or a list with one number an epoch.")
    return numbers
