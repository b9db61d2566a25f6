"""Batch norm over the batches of all processes in distributed training."""

from __future__ import annotations

import torch
from torch import nn

from sifa.networks.segmenter import Segmenter
from sifa.utils.distributed import sum_over_processes, world_size


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.SyncBatchNorm` for any device: PyTorch's needs a GPU. Batches have the same size on all processes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to the same shape; in training, the statistics are over the batches of all processes."""
        processes = world_size()
        if not self.training or processes == 1:
            return super().forward(x)
        full = x.to(self.weight.dtype)
        mean = sum_over_processes(full.mean((0, 2, 3))) / processes
        centered = full - mean[:, None, None]
        variance = sum_over_processes(centered.square().mean((0, 2, 3))) / processes
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach(), processes * x.numel() // x.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum  # None: the mean
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / (count - 1), momentum)


def with_synchronized_batch_norm(segmenter: Segmenter, device: torch.device | str) -> Segmenter:
    """Replaces every batch norm of `segmenter`; the names in its state dict stay the same.

    Args:
        segmenter: C(E(.)).
        device: device of the training. On a GPU, PyTorch's own layer with fused kernels is used, else the one above.
    """
    if torch.device(device).type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)
    for module in list(segmenter.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.BatchNorm2d):
                replacement = SynchronizedBatchNorm2d(layer.num_features, layer.eps, layer.momentum)
                replacement.to(layer.weight).load_state_dict(layer.state_dict())
                setattr(module, name, replacement.train(layer.training))
    return segmenter
