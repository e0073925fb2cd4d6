"""Rows of all ranks, gathered with gradient: what a contrastive loss needs to see every negative of the batch.

Each rank's loss is a mean over its own rows, and gradients are averaged over ranks; so the backward pass sums what all
ranks say of a row. Then two ranks of B rows have the gradient of one rank of 2B.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def rank_and_count() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    several = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if several else (0, 1)


def gather(x: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
    """The rows of all ranks in the order of ranks, n = b * ranks; with one process `x` itself."""
    return x if rank_and_count()[1] == 1 else Gather.apply(x)


def first_row(x: Shaped[Tensor, "b ..."]) -> int:
    """Where this rank's rows begin among those that `gather` returns."""
    return len(x) * rank_and_count()[0]


def gather_views(z: Shaped[Tensor, "n d"], views: int) -> Shaped[Tensor, "v b d"]:
    """Rows of this rank, view after view, to those of all ranks by view: a statistic of them is the same on each."""
    return gather(z.unflatten(0, (views, -1)).transpose(0, 1)).transpose(0, 1)


class Gather(torch.autograd.Function):
    """torch.distributed.nn's own sums gradients by all-to-all, after which gloo aborts one run in two (torch 2.14)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(rank_and_count()[1])]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        rank, count = rank_and_count()
        return total.chunk(count)[rank]
