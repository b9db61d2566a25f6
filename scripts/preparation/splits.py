"""Splits scans into the lists of a data set, by subject: all scans of a subject are in one list."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sifa.utils.errors import InputError

from preparation.scans import Scan

SHARE_FOR_TESTING = 0.2  # of the labeled subjects of the target, where all are labeled


@dataclass(frozen=True)
class Split:
    """The scans of each list of `dataset.json`."""

    source_training: Sequence[Scan]
    source_validation: Sequence[Scan]
    target_training: Sequence[Scan]  # without their labels
    target_validation: Sequence[Scan]
    target_test: Sequence[Scan]
    notes: Sequence[str]

    @property
    def lists(self) -> dict[str, Sequence[Scan]]:
        """The scans of each list by its place in the file."""
        return {
            "source.training": self.source_training,
            "source.validation": self.source_validation,
            "target.training": self.target_training,
            "target.validation": self.target_validation,
            "target.test": self.target_test,
        }

    @property
    def supervised_training(self) -> list[Scan]:
        """The scans of the target's training list that have labels, for the upper bound."""
        return [scan for scan in self.target_training if scan.label is not None]


@dataclass(frozen=True)
class Shares:
    """How subjects are split."""

    source_validation: float  # of the source's subjects to hold out
    validation: float  # of the target's labeled subjects to measure on during training
    test: float | None  # of the target's labeled subjects to test on; None: see `split_scans`
    seed: int  # of the random choice

    @classmethod
    def checked(cls, source_validation: object, validation: object, test: object, seed: object) -> Shares:
        """Returns the shares of the command line.

        Raises:
            InputError: when one of them is no share, or the seed is no whole number.
        """
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise InputError(f"--seed is {seed!r}: give a whole number, such as 0.")
        return cls(
            _share(source_validation, "--source_validation_fraction"),
            _share(validation, "--validation_fraction"),
            None if test is None else _share(test, "--test_fraction"),
            seed,
        )


def _share(value: object, option: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"{option} is {value!r}: give a share of the subjects from 0 to 1, such as 0.2.")
    return float(value)


def split_scans(source: Sequence[Scan], target: Sequence[Scan], shares: Shares) -> Split:
    """Splits the scans of both domains, the same way for the same subjects, shares and seed.

    Args:
        source: labeled scans; those that the layout keeps for testing are held out in any case.
        target: scans, with or without labels; labeled ones that the layout keeps for testing are tested on in any case.
        shares: of the subjects. Without a share for testing, none of the others is tested on where the layout keeps
            labeled scans for testing, `SHARE_FOR_TESTING` where all subjects that it does not are labeled, else all.

    Raises:
        InputError: when a list that needs scans would be empty.
    """
    own = _subjects(scan for scan in source if scan.is_test)
    candidates = [subject for subject in _subjects(source) if subject not in own]
    held_out, trained = draw_subjects(candidates, _count(candidates, shares.source_validation), shares.seed)
    if not trained:
        raise InputError(
            f"none of the {len(_subjects(source))} labeled subjects of the source is left to train on: lower "
            "--source_validation_fraction, or add labeled scans."
        )
    kept = _subjects(scan for scan in target if scan.is_test and scan.label is not None)
    labeled = [
        subject for subject in _subjects(scan for scan in target if scan.label is not None) if subject not in kept
    ]
    others = [subject for subject in _subjects(target) if subject not in {*kept, *labeled}]
    are_all = all(scan.is_test for scan in target if scan.subject in others)
    usual = 0.0 if kept else SHARE_FOR_TESTING if are_all else 1.0 - shares.validation
    share = usual if shares.test is None else shares.test
    validated, left = draw_subjects(labeled, _count(labeled, shares.validation), shares.seed)
    tested, left = draw_subjects(left, min(_count(labeled, share), len(left)), shares.seed)
    if shares.validation + share > 1 or (labeled and share > 0 and not tested):
        raise InputError(
            f"--validation_fraction {shares.validation:g} and --test_fraction {share:g} need more than the "
            f"{len(labeled)} labeled subjects of the target: lower one of them."
        )
    adapted = {*left, *others}
    if target and not adapted:
        raise InputError(
            f"none of the {len(_subjects(target))} subjects of the target is left to adapt to: lower --test_fraction "
            "or --validation_fraction, or add unlabeled scans."
        )
    measured = {*tested, *kept}
    unlabeled = [scan.name for scan in target if scan.subject in {*measured, *validated} and scan.label is None]
    return Split(
        source_training=_of(source, trained),
        source_validation=_of(source, [*held_out, *own]),
        target_training=_of(target, adapted),
        target_validation=[scan for scan in _of(target, validated) if scan.label is not None],
        target_test=[scan for scan in _of(target, measured) if scan.label is not None],
        notes=[f"left out, since other scans of the same subjects are tested on: {', '.join(unlabeled)}"]
        if unlabeled
        else [],
    )


def _subjects(scans: Iterable[Scan]) -> list[str]:
    return sorted({scan.subject for scan in scans})


def _of(scans: Iterable[Scan], subjects: Iterable[str]) -> list[Scan]:
    chosen = set(subjects)
    return [scan for scan in scans if scan.subject in chosen]


def _count(subjects: Sequence[str], fraction: float) -> int:
    """Returns how many subjects a share is, at least one where it is not 0."""
    return min(max(round(len(subjects) * fraction), 1), len(subjects)) if fraction > 0 else 0


def draw_subjects(subjects: Sequence[str], count: int, seed: int) -> tuple[list[str], list[str]]:
    """Returns some subjects at random, and the others."""
    drawn = set(random.Random(seed).sample(sorted(subjects), count))
    return sorted(drawn), sorted(set(subjects) - drawn)
