"""The gate that opens while a discriminator tells the domains apart."""

from __future__ import annotations

import pytest
import torch
from builders import refusal
from sifa.adaptation.accuracy_gate import AccuracyGate


def update(gate: AccuracyGate, *accuracies: float) -> list[bool]:
    return [gate.update(torch.tensor(accuracy)) for accuracy in accuracies]


def test_it_is_open_while_the_accuracy_exceeds_the_threshold() -> None:
    assert update(AccuracyGate(0.5), 0.75, 0.5, 0.25, 0.51) == [True, False, False, True]


def test_the_mean_of_the_last_accuracies_counts() -> None:
    assert update(AccuracyGate(0.5, window=2), 0.25, 1.0, 0.5, 0.25) == [False, True, True, False]


def test_without_a_threshold_it_is_always_open() -> None:
    assert update(AccuracyGate(None), 0.0, 1.0) == [True, True]


def test_a_restored_gate_continues_where_it_stopped() -> None:
    gate = AccuracyGate(0.5, window=3)
    update(gate, 1.0, 1.0)
    again = AccuracyGate(0.5, window=3)
    again.load_state_dict(gate.state_dict())
    assert update(again, 0.0, 0.0) == update(gate, 0.0, 0.0) == [True, False]


@pytest.mark.parametrize(
    ("threshold", "window", "name"), [(1.0, 1, "threshold"), (-0.1, 1, "threshold"), (0.6, 0, "window")]
)
def test_settings_out_of_range_are_refused(threshold: float, window: int, name: str) -> None:
    assert f"gate#{name}" in refusal(lambda: AccuracyGate(threshold, window))
