"""Rows drawn class by class."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def places(y: Int[Tensor, " n"], rng: torch.Generator) -> Int[Tensor, " n"]:
    """The place of each row among those of its class, from 0, in a random order; `rng` is on the CPU.

    `places(y, rng) < 5` are five rows of each class, and all of a class that has fewer.
    """
    order = torch.randperm(len(y), generator=rng)
    order = order[y.cpu()[order].argsort(stable=True)]  # by class, at random within it
    counts = y.cpu().bincount()
    first = counts.cumsum(0) - counts
    found = torch.empty(len(y), dtype=torch.int64)
    found[order] = torch.arange(len(y)) - first.repeat_interleave(counts)
    return found


def spread(y: Int[Tensor, " n"], count: int, rng: torch.Generator) -> Int[Tensor, " m"]:
    """Sorted rows, `count` of them or all where there are fewer, each class by its share in `y`."""
    share = (places(y, rng) + 0.5) / y.cpu().bincount()[y.cpu()]  # of its class that comes before a row, in (0, 1)
    return share.argsort(stable=True)[:count].sort().values
