"""Rows of all ranks, gathered with gradient: what a contrastive loss needs to see every negative of the batch.

Each rank's loss is a mean over its own rows, and gradients are averaged over ranks; so the backward pass sums what all
ranks say of a row. Then two ranks of B rows have the gradient of one rank of 2B.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def gather(x: Float[Tensor, "b ..."]) -> Float[Tensor, "n ..."]:
    """The rows of all ranks in the order of ranks, n = b * ranks; with one process `x` itself."""
    return _Gather.apply(x) if _several() else x


def first_row(x: Float[Tensor, "b ..."]) -> int:
    """Where this rank's rows begin among those that `gather` returns."""
    return len(x) * dist.get_rank() if _several() else 0


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
