"""The precision is the faster one, and float32 where there is nothing to gain."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from sifa.inference import precision
from sifa.inference.precision import GAIN, faster_precision


@pytest.mark.parametrize(
    ("float32_seconds", "bfloat16_seconds", "expected"),
    [(2.0, 1.0, "bfloat16"), (1.0, 2.0, "float32"), (1.0, 1.0, "float32"), (0.99 * GAIN, 1.0, "float32")],
)
def test_bfloat16_is_chosen_where_it_is_clearly_faster(
    float32_seconds: float, bfloat16_seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    layer = torch.nn.Conv2d(1, 1, 3)

    def network(windows: torch.Tensor) -> torch.Tensor:
        nonlocal clock
        result = layer(windows)
        clock += bfloat16_seconds if result.dtype == torch.bfloat16 else float32_seconds
        return result

    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: clock))
    assert faster_precision(network, torch.zeros(1, 1, 8, 8)) == expected
