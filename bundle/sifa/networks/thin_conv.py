"""A convolution from or to very few channels, without the slow path that its gradient has on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class ThinConv2d(nn.Conv2d):
    """`nn.Conv2d` of stride 1 that computes the gradient of its input by a forward convolution.

    The gradient of the input is the convolution of the gradient of the output with the flipped weights. Where the input
    or the output has very few channels, as images have, PyTorch's own computation of it on CPUs takes several times as
    long. Values and gradients are those of `nn.Conv2d` up to rounding. On other devices and under autocast it is
    `nn.Conv2d`.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H', W')."""
        if input.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        output: torch.Tensor = _Convolution.apply(input, self.weight, self.bias, self.padding)
        return output


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: tuple[int, int]
    ) -> torch.Tensor:
        ctx.save_for_backward(image, weight)
        ctx.padding = padding
        return functional.conv2d(image, weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        for_image, for_weight, for_bias, _ = ctx.needs_input_grad
        image_gradient = weight_gradient = bias_gradient = None
        if for_image:
            padding = [size - 1 - pad for size, pad in zip(weight.shape[2:], ctx.padding, strict=True)]
            image_gradient = functional.conv2d(gradient, weight.flip(2, 3).transpose(0, 1), padding=padding)
        if for_weight or for_bias:
            _, weight_gradient, bias_gradient = torch.ops.aten.convolution_backward(
                gradient,
                image,
                weight,
                [weight.shape[0]],
                [1, 1],
                list(ctx.padding),
                [1, 1],
                False,
                [0, 0],
                1,
                [False, for_weight, for_bias],
            )
        return image_gradient, weight_gradient, bias_gradient, None
