"""Synchronised batch normalisation: the statistics of the rows of all ranks, on any device."""

from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ssl_runner.layers.gather import gather, rank_and_count

M = TypeVar("M", bound=nn.Module)


class SyncBatchNorm(nn.BatchNorm2d):
    """Of rows, sequences or images; torch's own is for GPUs alone."""

    def forward(self, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        return normalise(self, x) if self.training else super().forward(x)

    def _check_input_dim(self, input: Tensor) -> None: ...


class SyncBatchNormAct(SyncBatchNorm):
    """timm's BatchNormAct2d, which is followed by dropout and an activation."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        z = super().forward(x)
        for module in (self.drop, self.act):
            z = cast(nn.Module, module)(z)
        return z


def normalise(norm: nn.BatchNorm2d, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
    """Batch norm in training, by the mean and variance of all ranks' rows; it moves the running statistics."""
    ranks = rank_and_count()[1]
    n = x.numel() // x.shape[1] * ranks
    with torch.no_grad():  # the gradient through them is in Normalise
        others = [0, *range(2, x.ndim)]
        wide = widen(x)
        own = wide.mean(others, keepdim=True)
        spread = (wide - own).square_().mean(others)  # torch.var_mean takes ten times as long on channels_last
        means, spreads = gather(torch.stack([own.flatten(), spread])[None]).unbind(1)  # (ranks, c) each
        mean, variance = means.mean(0), spreads.mean(0) + means.var(0, correction=0)
        if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, share)
            norm.running_var.lerp_(variance * (n / max(1, n - 1)), share)
    z: Tensor = Normalise.apply(x, norm.weight, norm.bias, mean, variance, norm.eps, n)
    return z


def widen(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return x if x.dtype == torch.float64 else x.float()


class Normalise(torch.autograd.Function):
    """Batch norm by statistics of n rows of all ranks, whose gradient is through these statistics as well.

    S. Ioffe, C. Szegedy, "Batch Normalization", ICML 2015, arXiv 1502.03167, section 3; the two sums are of all ranks.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        n: int,
    ) -> Tensor:
        ctx.n, ctx.has_bias = n, bias is not None
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        x, weight, mean, scale = ctx.saved_tensors  # scale: 1 / standard deviation
        others = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        dy, centred = widen(gradient), widen(x) - mean.view(shape)
        sums = torch.stack([dy.sum(others), (dy * centred).sum(others)])
        own = sums.clone()
        dist.all_reduce(sums)
        slope = scale if weight is None else scale * weight
        towards = (-sums[1] / ctx.n * scale**2 * slope).view(shape)
        dx = torch.addcmul(dy * slope.view(shape) - (sums[0] / ctx.n * slope).view(shape), centred, towards)
        dweight, dbias = (None if weight is None else own[1] * scale), (own[0] if ctx.has_bias else None)
        return dx.to(x.dtype), dweight, dbias, None, None, None, None


def synchronise(module: M, device: torch.device) -> M:
    """The module with each batch norm in it synchronised; parameters and buffers stay the same tensors."""
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # a second of each start, and few runs have several GPUs

        return cast(M, convert_sync_batchnorm(module))
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            each.__class__ = SyncBatchNormAct if hasattr(each, "act") else SyncBatchNorm
    return module
