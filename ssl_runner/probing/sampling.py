"""Stratified sampling: rows drawn class by class."""

import torch
from jaxtyping import Int
from torch import Tensor


def rank_within_class(y: Int[Tensor, " n"], rng: torch.Generator) -> Int[Tensor, " n"]:
    """Random rank of each row among those of its class, from 0; `rng` is on the CPU.

    `rank_within_class(y, rng) < 5` are five rows of each class, and all of a class that has fewer.
    """
    order = torch.randperm(len(y), generator=rng)
    order = order[y.cpu()[order].argsort(stable=True)]  # by class, at random within it
    counts = y.cpu().bincount()
    first = counts.cumsum(0) - counts
    ranks = torch.empty(len(y), dtype=torch.int64)
    ranks[order] = torch.arange(len(y)) - first.repeat_interleave(counts)
    return ranks


def stratified_sample(y: Int[Tensor, " n"], count: int, rng: torch.Generator) -> Int[Tensor, " m"]:
    """Sorted rows, `count` of them or all if there are fewer, each class by its share in `y`."""
    before = (rank_within_class(y, rng) + 0.5) / y.cpu().bincount()[y.cpu()]  # share of its class before a row
    return before.argsort(stable=True)[:count].sort().values
