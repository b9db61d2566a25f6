"""The weight matrix of the loss: a column for each module, a row for each term, every entry constant or by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from sifa.utils.errors import InputError
from sifa.utils.keys import LossTerms

Columns = Mapping[str, Mapping[str, float | Sequence[float]]]


class LossWeights:
    """The weights with which each module minimizes the loss terms: `{module: {term: weight}}`.

    A weight is a number, or a list with one number for each epoch, the last of which applies from then on (as the ramp
    of w_p).

    Args:
        columns: the matrix as the config gives it, with the method's modules and the values of `LossTerms`.
        terms: the terms that each module of the method can minimize.

    Raises:
        InputError: when a module is unknown, a term is not one that the module can minimize, or a weight is neither a
            number nor a list of numbers.
    """

    def __init__(
        self,
        columns: Columns,
        terms: Mapping[str, Sequence[LossTerms]],
    ) -> None:
        self.columns: dict[str, dict[str, list[float]]] = {}
        for module, column in columns.items():
            if module not in terms:
                raise InputError(f"loss_weights names '{module}': choose from {', '.join(terms)}.")
            names = [str(term.value) for term in terms[module]]
            for term in column:
                if term not in names:
                    raise InputError(f"loss_weights#{module} names '{term}': choose from {', '.join(sorted(names))}.")
            self.columns[module] = {
                term: _by_epoch(weight, f"loss_weights#{module}#{term}") for term, weight in column.items()
            }

    def at(self, module: str, term: LossTerms, epoch: int) -> float:
        """Returns the weight of `term` for `module` in `epoch` (counted from 1); a missing entry is 0."""
        return _in_epoch(self.columns.get(module, {}).get(str(term.value), [0.0]), epoch)

    def is_used(self, module: str, term: LossTerms) -> bool:
        """Returns whether `term` has a weight for `module` in any epoch."""
        return any(self.columns.get(module, {}).get(str(term.value), ()))

    def any_used(self, module: str, terms: Iterable[LossTerms], epoch: int) -> bool:
        """Returns whether one of `terms` has a weight for `module` in `epoch`."""
        return any(self.at(module, term, epoch) for term in terms)

    def scheduled(self, epoch: int) -> dict[str, torch.Tensor]:
        """Returns the weights that follow a schedule, in `epoch`, as `<module>_<term>_weight`."""
        return {
            f"{module}_{term}_weight": torch.tensor(_in_epoch(weights, epoch))
            for module, column in self.columns.items()
            for term, weights in column.items()
            if len(weights) > 1
        }

    def total(self, module: str, terms: Mapping[LossTerms, torch.Tensor], epoch: int) -> torch.Tensor:
        """Returns the weighted sum of the scalar `terms` that `module` minimizes in `epoch`.

        Terms of weight 0 are left out, so they cost no backward pass.

        Raises:
            InputError: when every term has weight 0.
        """
        parts = [weight * loss for term, loss in terms.items() if (weight := self.at(module, term, epoch)) != 0]
        if not parts:
            raise InputError(f"loss_weights#{module} gives weight 0 to every term: nothing is left to minimize.")
        return torch.stack(parts).sum()


def by_name(terms: Mapping[LossTerms, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns loss terms under the names that outputs, logs and tables use."""
    return {str(term.value): loss for term, loss in terms.items()}


def _in_epoch(weights: Sequence[float], epoch: int) -> float:
    return weights[min(epoch, len(weights)) - 1]


def _by_epoch(weight: float | Sequence[float], place: str) -> list[float]:
    """Returns a weight as a list; YAML reads 1e-1, without a point, as a string."""
    values = weight if isinstance(weight, Sequence) and not isinstance(weight, str) else [weight]
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if not numbers:
        raise InputError(f"{place} is {weight!r}: give a number, or a list with one number for each epoch.")
    return numbers
