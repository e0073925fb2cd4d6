"""Synchronised batch normalisation: the statistics of the rows of all ranks, on any device."""

from typing import TypeVar, cast

import torch
from jaxtyping import Float
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

from ssl_runner.layers.gather import all_sum, rank_and_count

M = TypeVar("M", bound=nn.Module)


class SyncBatchNorm(nn.BatchNorm2d):
    """Of rows, sequences or images; torch's own is for GPUs alone."""

    def forward(self, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        return normalise(self, x) if self.training else super().forward(x)

    def _check_input_dim(self, input: Tensor) -> None: ...


class SyncBatchNormAct(BatchNormAct2d):
    """timm's, which is followed by an activation."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.act(self.drop(normalise(self, x))) if self.training else super().forward(x)


def normalise(norm: nn.BatchNorm2d, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
    """Batch norm in training, by two sums over all ranks; it moves the running statistics."""
    wide = x if x.dtype == torch.float64 else x.float()
    others = [0, *range(2, x.ndim)]  # dimensions that are averaged over
    n = x.numel() // x.shape[1] * rank_and_count()[1]
    mean = all_sum(wide.sum(others, keepdim=True)) / n
    centred = wide - mean
    variance = all_sum(centred.square().sum(others, keepdim=True)) / n
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.detach().flatten(), share)
        norm.running_var.lerp_(variance.detach().flatten() * (n / max(1, n - 1)), share)
    z = centred * (variance + norm.eps).rsqrt()
    return (z * norm.weight.view_as(mean) + norm.bias.view_as(mean) if norm.affine else z).to(x.dtype)


def synchronise(module: M, device: torch.device) -> M:
    """The module with each batch norm in it synchronised; parameters and buffers stay the same tensors."""
    if device.type == "cuda":
        return cast(M, convert_sync_batchnorm(module))
    for each in module.modules():
        if isinstance(each, BatchNormAct2d):
            each.__class__ = SyncBatchNormAct
        elif isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            each.__class__ = SyncBatchNorm
    return module
