"""Stratified splits of rows, and rows viewed by index."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Int
from torch import Tensor

from ssl_runner.contract import Rows

Share = Annotated[float, Interval(ge=0, lt=1)]  # of every class that is held out, the same of each; 0 for none


def held_out_count(count: int, share: float) -> int:
    """How many rows of a class of `count` are held out: at least one and not all, if there are two or more."""
    if count < 2 or share == 0:
        return 0
    return min(max(round(share * count), 1), count - 1)


def stratified_split(y: Int[Tensor, " n"], share: float, seed: int) -> tuple[Int[Tensor, " r"], Int[Tensor, " h"]]:
    """Sorted rows of the rest and of the held-out part, the same share of every class.

    The draw has a generator of its own: it depends on `y`, `share` and `seed`, never on the seed of a run.
    A class of one row stays in the rest.
    """
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    shuffled = y.cpu()[order]
    held = torch.zeros(len(y), dtype=torch.bool)
    for label in shuffled.unique():
        rows = order[shuffled == label]
        held[rows[: held_out_count(len(rows), share)]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


class Subset:
    """Rows of `rows` by index, read when asked for and never copied before."""

    def __init__(self, rows: Rows, index: Int[Tensor, " n"]):
        self.rows = rows
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Int[Tensor, " b"]) -> Tensor:
        return self.rows[self.index[index]]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *shape of a sample), as of a tensor."""
        return (len(self), *self.rows[self.index[:0]].shape[1:])
