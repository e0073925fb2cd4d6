"""Ranks of a distributed job: which process this is, of how many. With one process each function is the identity."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ssl_runner.layers.gather import rank_and_count

T = TypeVar("T")


def rank() -> int:
    """The number of this process, from 0."""
    return rank_and_count()[0]


def count() -> int:
    """How many processes there are."""
    return rank_and_count()[1]


def is_first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def rows_of_rank(index: Tensor, accumulate: int = 1) -> Tensor:
    """The share of a step's rows that is this rank's, consecutive in each micro-batch: (B,) to (B / count,).

    So a micro-batch has the same rows on any number of ranks. Raises ValueError if they cannot be shared out.
    """
    number, processes = rank_and_count()
    if len(index) % (processes * accumulate):
        shares = f"accumulate={accumulate} micro-batches of {processes} processes"
        raise ValueError(f"batch_size={len(index)} does not divide among {shares}")
    return index.view(accumulate, processes, -1)[:, number].flatten() if processes > 1 else index


def first_place(batch_size: int, accumulate: int, micro: int) -> int:
    """Where the first sample of this rank's micro-batch is among those of the step."""
    number, processes = rank_and_count()
    return (micro * processes + number) * (batch_size // (accumulate * processes))


def mean(numbers: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Scalars by name, each the mean over ranks, which all have the same names in the same order."""
    if count() == 1 or not numbers:
        return numbers
    total = torch.stack([each.float() for each in numbers.values()])
    dist.all_reduce(total)
    return dict(zip(numbers, total / count(), strict=True))


def every(flag: bool) -> bool:
    """Whether it is true of every rank. Waits for all of them."""
    if count() == 1:
        return flag
    true = torch.tensor(int(flag))
    dist.all_reduce(true, op=dist.ReduceOp.MIN)
    return bool(true)


def of_first(thing: T) -> T:
    """What the first rank has, of plain values."""
    if count() == 1:
        return thing
    box: list[Any] = [thing]
    dist.broadcast_object_list(box)
    return box[0]


def barrier() -> None:
    """Returns once every rank is here."""
    every(True)
