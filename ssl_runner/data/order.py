"""Sample order of an epoch: a random permutation, or shuffling within a window of shards that are read in turn."""

from collections.abc import Callable, Sized
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Stretches:
    """Consecutive rows that are cheap to read together, such as those of a shard: `rows.stretches`, if rows have some.

    `expect` is told in which order an epoch will come to the stretches, so that they can be fetched ahead.
    """

    sizes: Int[Tensor, " k"]  # rows of each; their sum is len(rows)
    window: int  # stretches that are read from at a time
    expect: Callable[[list[int]], None] = lambda numbers: None

    def of_rows(self, rows: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The stretch of each row."""
        return torch.searchsorted(self.sizes.cumsum(0), rows, right=True)

    def subset(self, index: Int[Tensor, " n"]) -> "Stretches | None":
        """Those of the rows of an ascending index, some perhaps empty; None if it does not ascend."""
        if len(index) > 1 and not bool((index.diff() > 0).all()):
            return None
        sizes = self.of_rows(index).bincount(minlength=len(self.sizes))
        return Stretches(sizes, self.window, self.expect)


def epoch_order(rows: Sized, rng: torch.Generator) -> Int[Tensor, " n"]:
    """All rows, each once, as `rng` draws it. What the rows will be asked for they are told, see `Stretches`."""
    stretches: Stretches | None = getattr(rows, "stretches", None)
    if stretches is None:
        return torch.randperm(len(rows), generator=rng)
    order = windowed_order(stretches.sizes, stretches.window, rng)
    numbers = stretches.of_rows(order)
    first = torch.full((len(stretches.sizes),), len(order)).scatter_reduce(0, numbers, torch.arange(len(order)), "amin")
    stretches.expect(first.argsort()[: int((first < len(order)).sum())].tolist())
    return order


def windowed_order(sizes: Int[Tensor, " k"], window: int, rng: torch.Generator) -> Int[Tensor, " n"]:
    """Stretches in random order, their rows mixed with those of the stretches around them.

    The stretch in place p of that order spreads its rows evenly over the time from p + 1/2 - window/2 to
    p + 1/2 + window/2, reflected at both ends: at no time are rows of more than `window` stretches wanted. With a
    window of all stretches it is `torch.randperm`, with one of 1 stretch follows stretch.
    """
    full = sizes > 0
    n, count = int(sizes.sum()), int(full.sum())
    if window >= count:
        return torch.randperm(n, generator=rng)
    place = torch.zeros_like(sizes)
    place[full] = torch.randperm(count, generator=rng)
    centre = place.repeat_interleave(sizes).double() + 0.5
    time = (centre + window * (torch.rand(n, generator=rng, dtype=torch.float64) - 0.5)).abs()
    return torch.minimum(time, 2 * count - time).argsort(stable=True)
