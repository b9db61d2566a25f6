"""Groups of a training's scalars: headings of the report, and the first part of TensorBoard's tags."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sifa.reports.scalar_table import EPOCH, ITERATION
from sifa.utils.keys import LossTerms, SIFAKeys


class Group(NamedTuple):
    """A group of scalars."""

    tag: str  # of TensorBoard, before the name of the scalar
    heading: str  # in the report


LOSSES = Group("losses", "Losses of generators and segmenter")
DISCRIMINATORS = Group("discriminator_losses", "Losses of the discriminators")
TERMS = Group("loss_terms", "Terms of the losses, unweighted")
WEIGHTS = Group("loss_weights", "Loss weights that follow a schedule")
RATES = Group("learning_rates", "Learning rates")
NORMS = Group("gradient_norms", "Gradient norms")
OTHERS = Group("others", "Other scalars")
GROUPS = (LOSSES, DISCRIMINATORS, TERMS, WEIGHTS, RATES, NORMS, OTHERS)  # in the report's order
UNSHOWN = (EPOCH, ITERATION, str(SIFAKeys.LOSS))  # the last one repeats the segmenter's loss


def group_of(name: str) -> Group:
    """Returns the group of a scalar."""
    if name.endswith("_discriminator_loss"):
        return DISCRIMINATORS
    if name.endswith("_loss") or name == SIFAKeys.LOSS:
        return LOSSES
    if name in list(LossTerms):
        return TERMS
    if name.endswith("_weight"):
        return WEIGHTS
    if name.endswith("_learning_rate"):
        return RATES
    return NORMS if name.endswith("_gradient_norm") else OTHERS


def group_scalars(names: Collection[str]) -> dict[Group, list[str]]:
    """Returns the scalars of each group that a report shows, in the order of `GROUPS`; empty groups are left out."""
    groups: dict[Group, list[str]] = {group: [] for group in GROUPS}
    for name in names:
        if name not in UNSHOWN:
            groups[group_of(name)].append(name)
    return {group: members for group, members in groups.items() if members}
