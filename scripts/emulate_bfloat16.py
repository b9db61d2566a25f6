"""Runs a command of the bundle in float32 with the rounding of bfloat16, for processors where bfloat16 is slow.

    python scripts/emulate_bfloat16.py run training --config_file ... --dataset_dir DATA --output_dir RUN

As with `--precision bfloat16`, inputs, weights and outputs of convolutions, outputs of norms, and the gradients of all
of these are rounded to bfloat16. Sums are in float32, as in hardware.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """Returns `tensor` rounded to bfloat16, as float32; its gradient is rounded in the same way."""
    return tensor.to(torch.bfloat16).to(torch.float32)


def rounds(function: Callable[..., torch.Tensor], tensors: int) -> Callable[..., torch.Tensor]:
    """Returns `function` with its result and those of its first `tensors` arguments that are tensors rounded."""

    def run(*arguments: Any, **options: Any) -> torch.Tensor:
        head = [rounded(value) if torch.is_tensor(value) else value for value in arguments[:tensors]]
        return rounded(function(*head, *arguments[tensors:], **options))

    return run


def patch_torch() -> None:
    """Makes convolutions and norms in this process round."""
    functional.conv2d = rounds(functional.conv2d, 3)
    functional.conv_transpose2d = rounds(functional.conv_transpose2d, 3)
    for norm in (nn.BatchNorm2d, nn.GroupNorm):
        norm.forward = rounds(norm.forward, 0)  # type: ignore[method-assign]


if __name__ == "__main__":
    patch_torch()
    sys.argv[0] = "monai.bundle"
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
