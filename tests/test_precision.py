"""The precision is the faster one, and float32 where there is nothing to gain."""

from __future__ import annotations

import time

import pytest
import torch
from sifa.precision import faster_precision


@pytest.mark.parametrize(("slow_in", "expected"), [(torch.float32, "bfloat16"), (torch.bfloat16, "float32")])
def test_the_faster_precision_is_chosen(slow_in: torch.dtype, expected: str) -> None:
    layer = torch.nn.Conv2d(1, 1, 3)

    def network(windows: torch.Tensor) -> torch.Tensor:
        result = layer(windows)
        if result.dtype == slow_in:
            time.sleep(0.05)
        return result

    assert faster_precision(network, torch.zeros(1, 1, 8, 8)) == expected


def test_float32_stays_where_both_are_alike() -> None:
    def network(windows: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return windows

    assert faster_precision(network, torch.zeros(1, 1, 8, 8)) == "float32"
